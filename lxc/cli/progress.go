package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"

	"sett/client"
	"sett/shared/api"
	"sett/shared/i18n"
)

// Progress shows how far something is, on one line of a terminal. Where the
// output is no terminal, or with --quiet, it shows nothing.
type Progress struct {
	format string // with one %s
	w      io.Writer

	mu    sync.Mutex
	width int
	done  bool
}

// Progress returns a line of progress; format holds one %s.
func (a *App) Progress(format string) *Progress {
	p := &Progress{format: format}
	if _, tty := Terminal(a.Out); tty && !a.Quiet {
		p.w = a.Out
	}
	return p
}

// Update shows a state.
func (p *Progress) Update(state string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.w == nil || p.done {
		return
	}
	text, _, _ := strings.Cut(fmt.Sprintf(p.format, state), "\n")
	pad := max(0, p.width-len(text))
	p.width = len(text)
	_, _ = fmt.Fprintf(p.w, "\r%s%s", text, strings.Repeat(" ", pad))
}

// Done clears the line and ends with text, if there is any.
func (p *Progress) Done(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.w == nil || p.done {
		p.done = true
		return
	}
	p.done = true
	if p.width > 0 {
		_, _ = fmt.Fprintf(p.w, "\r%s\r", strings.Repeat(" ", p.width))
	}
	if text != "" {
		_, _ = fmt.Fprintln(p.w, text)
	}
}

// Cancelable is work on a server that can be waited for and cancelled.
type Cancelable interface {
	Wait() error
	Cancel() error
}

// Work is Cancelable and tells how far it is.
type Work interface {
	Cancelable
	AddHandler(func(api.Operation)) (*client.EventTarget, error)
}

// remoteWork is a client.RemoteOperation as something that can be cancelled.
type remoteWork struct{ client.RemoteOperation }

func (r remoteWork) Cancel() error { return r.CancelTarget() }

// Remote makes work that may try several servers one that can be cancelled.
func Remote(op client.RemoteOperation) Work { return remoteWork{op} }

// Follow is Await for work whose progress is shown meanwhile; format holds one %s.
func (a *App) Follow(op Work, format string) error {
	progress := a.Progress(format)
	defer progress.Done("")
	_, _ = op.AddHandler(progress.UpdateOp)
	return a.Await(op)
}

// Await waits for work on a server. An interrupt (^C) cancels it; where it cannot be
// cancelled, a second one lets it go on without us.
func (a *App) Await(op Cancelable) error {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, os.Interrupt)
	defer signal.Stop(asked)
	return await(op, asked, func(why error) {
		_, _ = fmt.Fprintf(a.Err, i18n.G("The operation cannot be cancelled: %v. Interrupt again to leave it to itself.")+"\n", why)
	})
}

// Wait is Await for what was asked for just now.
func (a *App) Wait(op Cancelable, err error) error {
	if err != nil {
		return err
	}
	return a.Await(op)
}

func await(op Cancelable, asked <-chan os.Signal, refused func(error)) error {
	ended := make(chan error, 1)
	go func() { ended <- op.Wait() }()
	for times := 0; ; times++ {
		select {
		case err := <-ended:
			if err != nil && times > 0 {
				return fmt.Errorf(i18n.G("Cancelled by the user: %w"), err)
			}
			return err
		case <-asked:
			if times > 0 {
				return errors.New(i18n.G("Interrupted twice; the operation goes on without us (see \"lxc operation list\")"))
			}
			if err := op.Cancel(); err != nil {
				refused(err)
			}
		}
	}
}

// UpdateOp shows what an operation tells about its progress.
func (p *Progress) UpdateOp(op api.Operation) {
	for _, key := range []string{"fs_progress", "download_progress", "create_image_from_container_pack_progress", "create_backup_progress", "unpack_progress", "container_progress"} {
		if v, ok := op.Metadata[key].(string); ok {
			p.Update(v)
			return
		}
	}
	for key, v := range op.Metadata {
		if s, ok := v.(string); ok && strings.HasSuffix(key, "_progress") {
			p.Update(s)
			return
		}
	}
}

// UpdateTransfer shows a transfer of this program's own.
func (p *Progress) UpdateTransfer(d client.ProgressData) { p.Update(d.Text) }
