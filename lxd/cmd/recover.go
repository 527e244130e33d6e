package cmd

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"sett/client"
	"sett/lxd/instance"
	"sett/shared/api"
	"sett/shared/i18n"
)

func (e *env) recoverCommand() *cobra.Command {
	return &cobra.Command{
		Use: "recover", Short: i18n.G("Recover instances from storage pools after the database was lost"), Args: cobra.NoArgs,
		Long: i18n.G("Recover instances from storage pools after the database was lost\n\n" +
			"It asks for pools that the server does not know any more, looks through them and through those that it knows, " +
			"says which instances they hold and what these need, and takes the instances with their snapshots into the database. " +
			"Nothing is changed before the last question is answered."),
		Example: "lxd recover",
		RunE:    func(cmd *cobra.Command, _ []string) error { return e.recover(cmd.Context()) },
	}
}

func (e *env) importCommand() *cobra.Command {
	return &cobra.Command{
		Use: "import", Short: i18n.G("Old name of \"lxd recover\""), Args: cobra.ArbitraryArgs, FParseErrWhitelist: cobra.FParseErrWhitelist{UnknownFlags: true},
		RunE: func(*cobra.Command, []string) error {
			return errors.New(i18n.G("This command has been replaced with \"lxd recover\". Please use that instead."))
		},
	}
}

// rescue is the dialogue of "lxd recover". Its questions and their order are LXD's,
// because scripts answer them by their number.
type rescue struct {
	asker
	c client.InstanceServer
}

func (e *env) recover(ctx context.Context) error {
	c, err := e.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Disconnect()
	r := &rescue{asker{bufio.NewReader(e.in), e.in, e.out, e.err}, c}
	info, _, err := c.GetServer()
	if err != nil {
		return err
	}
	known, err := c.GetStoragePools()
	if err != nil {
		return err
	}
	fmt.Fprintln(r.out, i18n.G("This LXD server currently has the following storage pools:"))
	for _, p := range known {
		fmt.Fprintf(r.out, " - %s (backend=%q, source=%q)\n", p.Name, p.Driver, p.Config["source"])
	}
	more, err := r.pools(known, info)
	if err != nil {
		return err
	}
	fmt.Fprintln(r.out, i18n.G("The recovery process will be scanning the following storage pools:"))
	for _, p := range known {
		fmt.Fprintf(r.out, " - %s: %q (backend=%q, source=%q)\n", i18n.G("EXISTING"), p.Name, p.Driver, p.Config["source"])
	}
	for _, p := range more {
		fmt.Fprintf(r.out, " - %s: %q (backend=%q, source=%q)\n", i18n.G("NEW"), p.Name, p.Driver, p.Config["source"])
	}
	if ok, err := r.yes(i18n.G("Would you like to continue with scanning for lost volumes?"), true); err != nil || !ok {
		return err
	}
	fmt.Fprintln(r.out, i18n.G("Scanning for unknown volumes..."))
	if ok, err := r.look(more); err != nil || !ok {
		return err
	}
	if ok, err := r.yes(i18n.G("Would you like those to be recovered?"), false); err != nil || !ok {
		return err
	}
	fmt.Fprintln(r.out, i18n.G("Starting recovery..."))
	_, _, err = c.RawQuery(http.MethodPost, "/internal/recover/import", instance.RescuePost{Pools: more}, "")
	if err != nil {
		return fmt.Errorf(i18n.G("Failed import request: %w"), err)
	}
	return nil
}

// pools asks for pools that the server does not know.
func (r *rescue) pools(known []api.StoragePool, info *api.Server) ([]api.StoragePoolsPost, error) {
	taken := map[string]bool{}
	for _, p := range known {
		taken[p.Name] = true
	}
	var drivers []string
	for _, d := range info.Environment.StorageSupportedDrivers {
		drivers = append(drivers, d.Name)
	}
	more := []api.StoragePoolsPost{}
	for {
		if ok, err := r.yes(i18n.G("Would you like to recover another storage pool?"), false); err != nil || !ok {
			return more, err
		}
		p := api.StoragePoolsPost{}
		p.Config = map[string]string{}
		var err error
		if p.Name, err = r.text(i18n.G("Name of the storage pool"), "", func(s string) error {
			if taken[s] {
				return fmt.Errorf(i18n.G("pool %q is on the list already"), s)
			}
			return nil
		}); err != nil {
			return nil, err
		}
		if p.Driver, err = r.choice(i18n.G("Name of the storage backend"), drivers, ""); err != nil {
			return nil, err
		}
		if p.Config["source"], err = r.text(i18n.G("Source of the storage pool (block device, volume group, dataset, path, ... as applicable)"), "", nil); err != nil {
			return nil, err
		}
		for {
			pair, err := r.maybe(i18n.G("Additional storage pool configuration property (KEY=VALUE, empty when done)"))
			if err != nil {
				return nil, err
			}
			if pair == "" {
				break
			}
			k, v, ok := strings.Cut(pair, "=")
			if !ok {
				fmt.Fprintf(r.errs, "%s\n\n", i18n.G("Invalid input: it is not of the form KEY=VALUE"))
				continue
			}
			p.Config[k] = v
		}
		taken[p.Name] = true
		more = append(more, p)
	}
}

// look scans until nothing is missing; false: there is nothing to do.
func (r *rescue) look(more []api.StoragePoolsPost) (bool, error) {
	for {
		resp, _, err := r.c.RawQuery(http.MethodPost, "/internal/recover/validate", instance.RescuePost{Pools: more}, "")
		if err != nil {
			return false, fmt.Errorf(i18n.G("Failed validation request: %w"), err)
		}
		var found instance.RescueResult
		if err := json.Unmarshal(resp.Metadata, &found); err != nil {
			return false, err
		}
		if len(found.Unusable) > 0 {
			fmt.Fprintln(r.out, i18n.G("The following volumes cannot be recovered:"))
			for _, v := range found.Unusable {
				fmt.Fprintln(r.out, " -", v)
			}
		}
		if len(found.UnknownVolumes) == 0 {
			fmt.Fprintln(r.out, i18n.G("No unknown volumes found. Nothing to do."))
			return false, nil
		}
		fmt.Fprintln(r.out, i18n.G("The following unknown volumes have been found:"))
		for _, v := range found.UnknownVolumes {
			kind := strings.ToUpper(v.Type[:1]) + v.Type[1:]
			fmt.Fprintf(r.out, " - %s\n", fmt.Sprintf(i18n.G("%s %q on pool %q in project %q (includes %d snapshots)"), kind, v.Name, v.Pool, v.Project, v.SnapshotCount))
		}
		if len(found.DependencyErrors) == 0 {
			return true, nil
		}
		fmt.Fprintln(r.out, i18n.G("You are currently missing the following:"))
		for _, d := range found.DependencyErrors {
			fmt.Fprintln(r.out, " -", d)
		}
		if _, err := r.maybe(i18n.G("Please create those missing entries and then hit ENTER")); err != nil {
			return false, err
		}
	}
}
