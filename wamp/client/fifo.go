package client

// fifo is a queue in one array that is used again when it has run empty.
type fifo[T any] struct {
	items []T
	head  int
}

func (q *fifo[T]) len() int { return len(q.items) - q.head }

func (q *fifo[T]) push(v T) {
	// Move up instead of growing when half of the array is free.
	if len(q.items) == cap(q.items) && q.head > len(q.items)/2 {
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	q.items = append(q.items, v)
}

// pop returns the oldest item, and the zero value when there is none.
func (q *fifo[T]) pop() (v T, ok bool) {
	if q.len() == 0 {
		return v, false
	}
	var zero T
	v, q.items[q.head] = q.items[q.head], zero
	q.head++
	if q.len() == 0 {
		q.items, q.head = q.items[:0], 0
	}
	return v, true
}

// drop forgets everything, the array included.
func (q *fifo[T]) drop() { *q = fifo[T]{} }
