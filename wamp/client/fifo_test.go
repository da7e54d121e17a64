package client

import "testing"

func TestFifo(t *testing.T) {
	var q fifo[int]
	next, want := 0, 0
	// Three in, two out, with the array moved up now and then.
	for range 1000 {
		for range 3 {
			q.push(next)
			next++
		}
		for range 2 {
			if v, ok := q.pop(); v != want || !ok {
				t.Fatalf("have %d, %t, want %d", v, ok, want)
			}
			want++
		}
	}
	for q.len() > 0 {
		if v, _ := q.pop(); v != want {
			t.Fatalf("have %d, want %d", v, want)
		}
		want++
	}
	if _, ok := q.pop(); ok || want != next {
		t.Errorf("%d of %d came out", want, next)
	}
	// A queue that never gets long keeps a short array.
	for i := range 10_000 {
		q.push(i)
		q.pop()
	}
	if q = (fifo[int]{}); cap(q.items) != 0 {
		t.Error("not empty")
	}
	for i := range 10_000 {
		q.push(i)
		if i > 2 {
			q.pop()
		}
	}
	if cap(q.items) > 64 {
		t.Errorf("array for 4 items has room for %d", cap(q.items))
	}
}
