package api

import "time"

// WebUILink is a link that logs one browser in, once.
type WebUILink struct {
	// Token is the secret of the link.
	Token string `json:"token" yaml:"token"`
	// URLs are where the server answers browsers; the token goes behind them, after
	// a number sign.
	URLs []string `json:"urls" yaml:"urls"`
	// ExpiresAt is when the link stops working.
	ExpiresAt time.Time `json:"expires_at" yaml:"expires_at"`
}

// WebUISessionsPost logs a browser in.
type WebUISessionsPost struct {
	// Token is the secret of a login link.
	Token string `json:"token" yaml:"token"`
}

// WebUISession is a browser that is logged in.
type WebUISession struct {
	// ID names the session; it is no secret.
	ID string `json:"id" yaml:"id"`
	// Protocol and Username say whose rights the session has.
	Protocol string `json:"protocol" yaml:"protocol"`
	Username string `json:"username" yaml:"username"`
	// Address and UserAgent are those of the browser when it logged in.
	Address   string `json:"address" yaml:"address"`
	UserAgent string `json:"user_agent" yaml:"user_agent"`
	// CreatedAt and ExpiresAt bound its life.
	CreatedAt time.Time `json:"created_at" yaml:"created_at"`
	ExpiresAt time.Time `json:"expires_at" yaml:"expires_at"`
	// Current marks the session that asks.
	Current bool `json:"current" yaml:"current"`
}
