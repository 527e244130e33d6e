package instance

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sett/lxc/cli"
	"sett/shared/api"
	"sett/shared/i18n"
	"sett/shared/units"
)

type info struct{ *cli.App }

// Info builds "lxc info".
func Info(a *cli.App) *cobra.Command {
	c := info{a}
	var log, resources bool
	cmd := cli.Command(cli.Help{
		Use: "info [<remote>:][<instance>]", Short: i18n.G("Show instance or server information"),
		Example: "lxc info\nlxc info c1 --show-log",
	}, 0, 1, func(cmd *cobra.Command, args []string) error {
		r, err := a.Resource(cmd, cli.OptionalArg(args, 0))
		if err != nil {
			return err
		}
		if err := r.ServerTarget(); err != nil {
			return err
		}
		switch {
		case resources && r.Name == "":
			res, err := r.Server.GetServerResources()
			if err != nil {
				return err
			}
			showResources(a, res)
			return nil
		case r.Name == "":
			s, _, err := r.Server.GetServer()
			if err != nil {
				return err
			}
			return a.ShowYAML(s)
		}
		return c.instance(r, log)
	})
	cmd.Flags().BoolVar(&log, "show-log", false, i18n.G("Show the instance's last 100 log lines?"))
	cmd.Flags().BoolVar(&resources, "resources", false, i18n.G("Show the resources available to the server"))
	cli.Target(cmd)
	return cmd
}

func (c info) instance(r cli.Resource, log bool) error {
	inst, _, err := r.Server.GetInstanceFull(r.Name)
	if err != nil {
		return err
	}
	kind := inst.Type
	if kind == "" {
		kind = "container"
	}
	if inst.Ephemeral {
		kind = fmt.Sprintf(i18n.G("%s (ephemeral)"), kind)
	}
	c.Printf(i18n.G("Name: %s\n"), inst.Name)
	if inst.Description != "" {
		c.Printf(i18n.G("Description: %s\n"), inst.Description)
	}
	c.Printf(i18n.G("Status: %s\n"), strings.ToUpper(inst.Status))
	c.Printf(i18n.G("Type: %s\n"), kind)
	c.Printf(i18n.G("Architecture: %s\n"), inst.Architecture)
	if inst.Location != "" && inst.Location != "none" {
		c.Printf(i18n.G("Location: %s\n"), inst.Location)
	}
	if s := inst.State; s != nil && s.Pid != 0 {
		c.Printf(i18n.G("PID: %d\n"), s.Pid)
	}
	if at := cli.Stamp(inst.CreatedAt); at != "" {
		c.Printf(i18n.G("Created: %s\n"), at)
	}
	if at := cli.Stamp(inst.LastUsedAt); at != "" {
		c.Printf(i18n.G("Last Used: %s\n"), at)
	}
	if s := inst.State; s != nil && s.Pid != 0 {
		c.resources(s)
	}
	if err := c.snapshots(inst.Snapshots); err != nil {
		return err
	}
	if err := c.backups(inst.Backups); err != nil {
		return err
	}
	if !log {
		return nil
	}
	f, err := r.Server.GetInstanceLogfile(r.Name, "lxc.log")
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(f)
	if err != nil {
		return err
	}
	c.Printf("\n"+i18n.G("Log:")+"\n\n%s\n", b)
	return nil
}

func (c info) resources(s *api.InstanceState) {
	c.Println("\n" + i18n.G("Resources:"))
	c.Printf("  "+i18n.G("Processes: %d\n"), s.Processes)
	disks := slices.DeleteFunc(slices.Sorted(maps.Keys(s.Disk)), func(n string) bool { return s.Disk[n].Usage <= 0 })
	if len(disks) > 0 {
		c.Println("  " + i18n.G("Disk usage:"))
		for _, n := range disks {
			c.Printf("    %s: %s\n", n, units.GetByteSizeStringIEC(s.Disk[n].Usage, 2))
		}
	}
	c.Println("  " + i18n.G("CPU usage:"))
	c.Printf("    %s: %d\n", i18n.G("CPU usage (in seconds)"), s.CPU.Usage/int64(time.Second))
	c.memory(s.Memory)
	if len(s.Network) > 0 {
		c.Println("  " + i18n.G("Network usage:"))
		for _, n := range slices.Sorted(maps.Keys(s.Network)) {
			c.network(n, s.Network[n])
		}
	}
}

func (c info) memory(m api.InstanceStateMemory) {
	var lines []string
	for _, v := range []struct {
		title string
		n     int64
	}{
		{i18n.G("Memory (current)"), m.Usage}, {i18n.G("Memory (peak)"), m.UsagePeak},
		{i18n.G("Swap (current)"), m.SwapUsage}, {i18n.G("Swap (peak)"), m.SwapUsagePeak},
	} {
		if v.n != 0 {
			lines = append(lines, fmt.Sprintf("    %s: %s", v.title, units.GetByteSizeStringIEC(v.n, 2)))
		}
	}
	if len(lines) > 0 {
		c.Println("  " + i18n.G("Memory usage:"))
		c.Println(strings.Join(lines, "\n"))
	}
}

func (c info) network(name string, n api.InstanceStateNetwork) {
	c.Printf("    %s:\n", cli.Plain(name))
	c.Printf("      %s: %s\n", i18n.G("Type"), n.Type)
	c.Printf("      %s: %s\n", i18n.G("State"), strings.ToUpper(n.State))
	if n.HostName != "" {
		c.Printf("      %s: %s\n", i18n.G("Host interface"), n.HostName)
	}
	if n.Hwaddr != "" {
		c.Printf("      %s: %s\n", i18n.G("MAC address"), n.Hwaddr)
	}
	if n.Mtu != 0 {
		c.Printf("      %s: %d\n", i18n.G("MTU"), n.Mtu)
	}
	c.Printf("      %s: %s\n", i18n.G("Bytes received"), units.GetByteSizeString(n.Counters.BytesReceived, 2))
	c.Printf("      %s: %s\n", i18n.G("Bytes sent"), units.GetByteSizeString(n.Counters.BytesSent, 2))
	c.Printf("      %s: %d\n", i18n.G("Packets received"), n.Counters.PacketsReceived)
	c.Printf("      %s: %d\n", i18n.G("Packets sent"), n.Counters.PacketsSent)
	c.Printf("      %s:\n", i18n.G("IP addresses"))
	for _, a := range n.Addresses {
		label := a.Family + ":"
		c.Printf("        %-6s %s/%s (%s)\n", label, a.Address, a.Netmask, a.Scope)
	}
}

func yesNo(b bool) string {
	if b {
		return i18n.G("YES")
	}
	return i18n.G("NO")
}

func (c info) snapshots(list []api.InstanceSnapshot) error {
	if len(list) == 0 {
		return nil
	}
	t := cli.Table{Header: []string{i18n.G("NAME"), i18n.G("TAKEN AT"), i18n.G("EXPIRES AT"), i18n.G("STATEFUL")}}
	for _, s := range list {
		name := s.Name[strings.LastIndexByte(s.Name, '/')+1:]
		t.Rows = append(t.Rows, []string{name, cli.Stamp(s.CreatedAt), cli.Stamp(s.ExpiresAt), yesNo(s.Stateful)})
	}
	c.Println("\n" + i18n.G("Snapshots:"))
	return t.Render(c.Out, cli.FormatTable)
}

func (c info) backups(list []api.InstanceBackup) error {
	if len(list) == 0 {
		return nil
	}
	t := cli.Table{Header: []string{i18n.G("NAME"), i18n.G("TAKEN AT"), i18n.G("EXPIRES AT"), i18n.G("INSTANCE ONLY"), i18n.G("OPTIMIZED STORAGE")}}
	for _, b := range list {
		name := b.Name[strings.LastIndexByte(b.Name, '/')+1:]
		t.Rows = append(t.Rows, []string{name, cli.Stamp(b.CreatedAt), cli.Stamp(b.ExpiresAt), yesNo(b.InstanceOnly), yesNo(b.OptimizedStorage)})
	}
	c.Println("\n" + i18n.G("Backups:"))
	return t.Render(c.Out, cli.FormatTable)
}
