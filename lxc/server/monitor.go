package server

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"gopkg.in/yaml.v2"

	"sett/client"
	"sett/lxc/cli"
	"sett/shared/api"
	"sett/shared/errs"
	"sett/shared/i18n"
)

type monitor struct {
	types       []string
	level       string
	format      string
	pretty      bool
	allProjects bool
}

// Monitor builds "lxc monitor".
func Monitor(a *cli.App) *cobra.Command {
	m := &monitor{}
	cmd := cli.Command(cli.Help{
		Use: "monitor [<remote>:]", Short: i18n.G("Show what happens on a server"), Hidden: true,
		Long:    i18n.G("All types of events are shown unless --type picks some."),
		Example: "lxc monitor --type=lifecycle\nlxc monitor --pretty --type=logging --loglevel=info",
	}, 0, 1, func(cmd *cobra.Command, args []string) error { return m.run(a, cmd, args) })
	cmd.Flags().StringArrayVar(&m.types, "type", nil, i18n.G("Event type to listen for (lifecycle, logging, operation)")+"``")
	cmd.Flags().StringVar(&m.level, "loglevel", "", i18n.G("Minimum level for log messages (only with the pretty format)")+"``")
	cmd.Flags().StringVarP(&m.format, "format", "f", "yaml", i18n.G("Format (json|pretty|yaml)")+"``")
	cmd.Flags().BoolVar(&m.pretty, "pretty", false, i18n.G("Pretty rendering (short for --format=pretty)"))
	cmd.Flags().BoolVar(&m.allProjects, "all-projects", false, i18n.G("Show events from all projects"))
	return cmd
}

func (m *monitor) run(a *cli.App, cmd *cobra.Command, args []string) error {
	if m.pretty {
		m.format = "pretty"
	}
	if !slices.Contains([]string{"json", "pretty", "yaml"}, m.format) {
		return fmt.Errorf(i18n.G("Invalid format %q"), m.format)
	}
	if m.level != "" && m.format != "pretty" {
		return errs.Invalid("%s", i18n.G("Log level filtering can only be used with pretty formatting"))
	}
	least := slog.LevelDebug - 4
	if m.level != "" {
		var ok bool
		if least, ok = levels()[strings.ToLower(m.level)]; !ok {
			return fmt.Errorf(i18n.G("Invalid log level %q"), m.level)
		}
	}
	r, err := a.Resource(cmd, cli.OptionalArg(args, 0))
	if err != nil {
		return err
	}
	var l *client.EventListener
	if m.allProjects {
		l, err = r.Server.GetEventsAllProjects()
	} else {
		l, err = r.Server.GetEvents()
	}
	if err != nil {
		return err
	}
	var types []string
	if len(m.types) > 0 {
		types = m.types
	}
	failed := make(chan error, 1)
	if _, err := l.AddHandler(types, func(e api.Event) {
		if err := m.show(a, e, least); err != nil {
			select {
			case failed <- err:
			default:
			}
		}
	}); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- l.Wait() }()
	select {
	case err = <-ended:
	case err = <-failed:
	case <-cmd.Context().Done():
	}
	l.Disconnect()
	return err
}

func levels() map[string]slog.Level {
	return map[string]slog.Level{
		"trace": slog.LevelDebug - 4, "dbug": slog.LevelDebug, "debug": slog.LevelDebug, "info": slog.LevelInfo,
		"warn": slog.LevelWarn, "warning": slog.LevelWarn, "eror": slog.LevelError, "error": slog.LevelError,
		"crit": slog.LevelError, "fatal": slog.LevelError, "panic": slog.LevelError,
	}
}

func (m *monitor) show(a *cli.App, e api.Event, least slog.Level) error {
	if m.format == "pretty" {
		return pretty(a, e, least)
	}
	// Through a map, so that keys are sorted, as readers of LXD's output expect.
	b, err := json.Marshal(e)
	if err != nil {
		return err
	}
	var plain map[string]any
	if err := json.Unmarshal(b, &plain); err != nil {
		return err
	}
	if m.format == "json" {
		b, err = json.Marshal(plain)
	} else {
		b, err = yaml.Marshal(plain)
	}
	if err != nil {
		return err
	}
	a.Printf("%s\n\n", b)
	return nil
}

// pretty writes one line per event: when, how bad, what.
func pretty(a *cli.App, e api.Event, least slog.Level) error {
	level, msg := "info", ""
	var context map[string]string
	switch e.Type {
	case api.EventTypeLogging:
		var l api.EventLogging
		if err := json.Unmarshal(e.Metadata, &l); err != nil {
			return err
		}
		level, msg, context = l.Level, l.Message, l.Context
	case api.EventTypeLifecycle:
		var l api.EventLifecycle
		if err := json.Unmarshal(e.Metadata, &l); err != nil {
			return err
		}
		msg = fmt.Sprintf("Action: %s, Source: %s", l.Action, l.Source)
		if q := l.Requestor; q != nil {
			msg += fmt.Sprintf(", Requestor: %s/%s (%s)", q.Protocol, q.Username, q.Address)
		}
		context = map[string]string{}
		for k, v := range l.Context {
			context[k] = fmt.Sprint(v)
		}
	case api.EventTypeOperation:
		var op api.Operation
		if err := json.Unmarshal(e.Metadata, &op); err != nil {
			return err
		}
		msg = fmt.Sprintf("ID: %s, Class: %s, Description: %s", op.ID, op.Class, op.Description)
		context = map[string]string{"CreatedAt": op.CreatedAt.String(), "Err": op.Err, "Location": op.Location, "MayCancel": fmt.Sprint(op.MayCancel), "Metadata": fmt.Sprint(op.Metadata), "Resources": fmt.Sprint(op.Resources), "Status": op.Status, "StatusCode": op.StatusCode.String(), "UpdatedAt": op.UpdatedAt.String()}
	}
	if l, ok := levels()[level]; ok && l < least {
		return nil
	}
	if level == "warn" {
		level = "warning"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "time=%q level=%s msg=%q", e.Timestamp.Format(time.RFC3339), level, msg)
	for _, k := range slices.Sorted(maps.Keys(context)) {
		fmt.Fprintf(&b, " %s=%s", k, quoted(context[k]))
	}
	a.Println(b.String())
	return nil
}

// quoted puts quotes around what is more than a word.
func quoted(s string) string {
	plain := func(c rune) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("-._/@^+", c)
	}
	if strings.ContainsFunc(s, func(c rune) bool { return !plain(c) }) {
		return fmt.Sprintf("%q", s)
	}
	return s
}
