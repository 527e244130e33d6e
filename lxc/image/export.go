package image

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"sett/client"
	"sett/lxc/cli"
	"sett/shared/i18n"
)

func (i image) export() *cobra.Command {
	cmd := cli.Command(cli.Help{
		Use: "export " + arg + " [<target>]", Short: i18n.G("Export and download images"),
		Long:    i18n.G("The target is a directory, or the beginning of the file names. Images of two files\nyield two files."),
		Example: "lxc image export debian .",
	}, 1, 2, func(cmd *cobra.Command, args []string) error {
		remote, name, err := i.Conf.ParseRemote(args[0])
		if err != nil {
			return err
		}
		s, err := i.ImageServer(cmd.Context(), remote)
		if err != nil {
			return err
		}
		fp, err := Fingerprint(s, name, "")
		if err != nil {
			return err
		}
		img, _, err := s.GetImage(fp)
		if err != nil {
			return err
		}
		target := "."
		if len(args) > 1 {
			target = args[1]
		}
		if err := i.download(s, img.Fingerprint, target); err != nil {
			return err
		}
		i.Println(i18n.G("Image exported successfully!"))
		return nil
	})
	cli.Later(cmd, "vm")
	return cmd
}

// download writes beside the target and renames at the end, so that half an image
// never looks like one.
func (i image) download(s client.ImageServer, fingerprint, target string) error {
	dir, base := target, ""
	if st, err := os.Stat(target); err != nil || !st.IsDir() {
		dir, base = filepath.Dir(target), filepath.Base(target)
	}
	meta, err := cli.TempFile(dir)
	if err != nil {
		return err
	}
	defer func() { _ = meta.Close(); _ = os.Remove(meta.Name()) }()
	rootfs, err := cli.TempFile(dir)
	if err != nil {
		return err
	}
	defer func() { _ = rootfs.Close(); _ = os.Remove(rootfs.Name()) }()

	progress := i.Progress(i18n.G("Exporting the image: %s"))
	resp, err := s.GetImageFile(fingerprint, client.ImageFileRequest{MetaFile: meta, RootfsFile: rootfs, ProgressHandler: progress.UpdateTransfer})
	progress.Done("")
	if err != nil {
		return err
	}
	metaName, rootName := filepath.Base(resp.MetaName), filepath.Base(resp.RootfsName)
	if base != "" {
		metaName, rootName = base+extension(resp.MetaName), base+".root"
	}
	if err := keep(meta, filepath.Join(dir, metaName)); err != nil {
		return err
	}
	if resp.RootfsName == "" {
		return nil
	}
	return keep(rootfs, filepath.Join(dir, rootName))
}

func keep(f *os.File, name string) error {
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}

// extension returns ".tar.gz" of "x.tar.gz" and ".squashfs" of "x.squashfs".
func extension(name string) string {
	base := filepath.Base(name)
	if i := strings.Index(base, ".tar"); i >= 0 {
		return base[i:]
	}
	return filepath.Ext(base)
}
