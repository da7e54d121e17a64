package gateway

import (
	"io"
	"log/slog"

	"github.com/postern-iot/postern/gateway/config"
)

// NewLogger makes the log that the configuration asks for, with a level that is
// level's, which it sets; nil for one that stays.
func NewLogger(cfg config.Log, w io.Writer, level *slog.LevelVar) *slog.Logger {
	if level == nil {
		level = new(slog.LevelVar)
	}
	level.Set(cfg.SlogLevel())
	opts := &slog.HandlerOptions{Level: level}
	if cfg.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}
