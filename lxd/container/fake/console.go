package fake

import (
	"context"
	"errors"
	"os"
	"slices"

	"sett/lxd/container"
)

// Print is what the guest prints on its console.
func (g *Guest) Print(s string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.print([]byte(s))
}

func (g *Guest) print(b []byte) {
	g.console = append(g.console, b...)
	if g.viewer != nil {
		_, _ = g.viewer.out.Write(b)
	}
}

// ConsoleSize is the size that the viewer has set.
func (g *Guest) ConsoleSize() (width, height int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.size[0], g.size[1]
}

// Console implements container.Process. The guest has a terminal and nobody at it:
// what is typed is shown, no more.
func (p *process) Console(ctx context.Context) (container.Terminal, error) {
	var out *console
	err := p.do(ctx, Console, func(g *Guest) error {
		if g.viewer != nil {
			return container.ErrConsoleBusy
		}
		inR, inW, err := os.Pipe()
		if err != nil {
			return err
		}
		outR, outW, err := os.Pipe()
		if err != nil {
			return err
		}
		out = &console{terminal{r: outR, w: inW}, g, inR, outW}
		g.viewer = out
		go out.echo()
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

type console struct {
	terminal
	g   *Guest
	in  *os.File
	out *os.File
}

func (c *console) echo() {
	defer c.in.Close()
	buf := make([]byte, 4096)
	for {
		n, err := c.in.Read(buf)
		if err != nil {
			return
		}
		c.g.mu.Lock()
		if c.g.state != container.Stopped {
			c.g.print(buf[:n])
		}
		c.g.mu.Unlock()
	}
}

func (c *console) Resize(width, height int) error {
	c.g.mu.Lock()
	defer c.g.mu.Unlock()
	c.g.size = [2]int{width, height}
	return nil
}

func (c *console) Close() error {
	c.g.mu.Lock()
	if c.g.viewer == c {
		c.g.viewer = nil
	}
	c.g.mu.Unlock()
	_ = c.out.Close() // the guest's end has closed it already, maybe
	if err := c.terminal.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}

// ConsoleLog implements container.Process.
func (p *process) ConsoleLog(ctx context.Context, clear bool) (out []byte, err error) {
	err = p.do(ctx, Console, func(g *Guest) error {
		out = slices.Clone(g.console)
		if clear {
			g.console = nil
		}
		return nil
	})
	return out, err
}
