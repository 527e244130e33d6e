package cli

// The templates of help. Lines of the long text are indented by cobra's own
// functions; flags come without types, since their texts name them.
const (
	helpTemplate = `{{with (or .Long .Short)}}{{tr "Description:"}}
{{indent . | trimTrailingWhitespaces}}

{{end}}{{if or .Runnable .HasSubCommands}}{{.UsageString}}{{end}}`

	usageTemplate = `{{tr "Usage:"}}{{if .HasAvailableSubCommands}}
  {{.CommandPath}} [flags]
  {{.CommandPath}} [command]{{else}}
  {{.UseLine}}{{end}}{{if .Aliases}}

{{tr "Aliases:"}}
  {{.NameAndAliases}}{{end}}{{if .HasExample}}

{{tr "Examples:"}}
{{indent .Example}}{{end}}{{if .HasAvailableSubCommands}}

{{tr "Available Commands:"}}{{range .Commands}}{{if .IsAvailableCommand}}
  {{rpad .Name .NamePadding }} {{.Short}}{{end}}{{end}}{{end}}{{if .HasAvailableLocalFlags}}

{{tr "Flags:"}}
{{.LocalFlags.FlagUsages | trimTrailingWhitespaces}}{{end}}{{if .HasAvailableInheritedFlags}}

{{tr "Global Flags:"}}
{{.InheritedFlags.FlagUsages | trimTrailingWhitespaces}}{{end}}{{if .HasAvailableSubCommands}}

{{more .CommandPath}}{{end}}
`
)
