package gateway

import (
	"io"
	"log/slog"

	"github.com/postern-iot/postern/gateway/config"
)

// NewLogger makes the log that the configuration asks for.
func NewLogger(cfg config.Log, w io.Writer) *slog.Logger {
	opts := &slog.HandlerOptions{Level: cfg.SlogLevel()}
	if cfg.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}
