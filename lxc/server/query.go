package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"sett/client"
	"sett/lxc/cli"
	"sett/shared/i18n"
)

// Query builds "lxc query".
func Query(a *cli.App) *cobra.Command {
	var method, data string
	var raw, wait bool
	cmd := cli.Command(cli.Help{
		Use: "query [<remote>:]<API path>", Short: i18n.G("Send a raw query to the server"), Hidden: true,
		Example: "lxc query /1.0/instances\nlxc query -X DELETE --wait /1.0/instances/c1",
	}, 1, 1, func(cmd *cobra.Command, args []string) error {
		remote, path, err := a.Conf.ParseRemote(args[0])
		if strings.HasPrefix(args[0], "/") {
			remote, path, err = a.Conf.DefaultRemote, args[0], nil
		}
		if err != nil {
			return err
		}
		if !strings.HasPrefix(path, "/") {
			return errors.New(i18n.G("Query path must start with /"))
		}
		if a.Project != "" {
			return errors.New(i18n.G("--project cannot be used with the query command"))
		}
		s, err := a.Server(cmd.Context(), remote)
		if err != nil {
			return err
		}
		return query(a, s, method, path, data, raw, wait)
	})
	cmd.Flags().StringVarP(&method, "request", "X", http.MethodGet, i18n.G("Action")+"``")
	cmd.Flags().StringVarP(&data, "data", "d", "", i18n.G("Input data")+"``")
	cmd.Flags().BoolVar(&raw, "raw", false, i18n.G("Print the raw response"))
	cmd.Flags().BoolVar(&wait, "wait", false, i18n.G("Wait for the operation to complete"))
	return cmd
}

func query(a *cli.App, s client.InstanceServer, method, path, data string, raw, wait bool) error {
	var body any
	if data != "" {
		body = io.Reader(strings.NewReader(data))
		if json.Valid([]byte(data)) {
			body = json.RawMessage(data)
		}
	}
	resp, _, err := s.RawQuery(method, path, body, "")
	if err != nil {
		return err
	}
	if wait && resp.Operation != "" {
		if resp, _, err = s.RawQuery(http.MethodGet, resp.Operation+"/wait", nil, ""); err != nil {
			return err
		}
		op, err := resp.MetadataAsOperation()
		if err != nil {
			return err
		}
		if op.Err != "" {
			return errors.New(op.Err)
		}
	}
	if raw {
		return indented(a, resp)
	}
	if len(resp.Metadata) == 0 || string(resp.Metadata) == "{}" || string(resp.Metadata) == "null" {
		return nil
	}
	var content any
	if err := resp.MetadataAsStruct(&content); err != nil {
		return err
	}
	return indented(a, content)
}

func indented(a *cli.App, v any) error {
	enc := json.NewEncoder(a.Out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "\t")
	if err := enc.Encode(v); err != nil {
		return err
	}
	_, err := fmt.Fprintln(a.Out)
	return err
}
