package member

import (
	"context"
	"net/http"

	"sett/lxd/cluster"
	"sett/lxd/cluster/relay"
	"sett/lxd/entity"
	"sett/lxd/event"
	"sett/shared/api"
	"sett/shared/errs"
	"sett/shared/keypair"
)

// setCertificate gives all members another certificate to show to clients. All must
// be there: one that has the old one would be a stranger to clients.
func (s *Service) setCertificate(ctx context.Context, put api.ClusterCertificatePut, by *event.Requestor) error {
	if err := s.clustered(); err != nil {
		return err
	}
	if _, err := keypair.Parse([]byte(put.ClusterCertificate), []byte(put.ClusterCertificateKey)); err != nil {
		return errs.Invalid("The certificate and its key are not a pair in PEM form: %v", err)
	}
	others, err := s.Cluster.Others(ctx)
	if err != nil {
		return err
	}
	for _, m := range others {
		if !s.Cluster.Online(m) {
			return errs.Unavailable("Cluster member %q is offline; all members must be online to take the new certificate", m.Name)
		}
	}
	old := s.Identity.Network()
	give := func(ctx context.Context, cert, key string) error {
		for _, e := range s.Cluster.Notify(ctx, func(ctx context.Context, m cluster.Member) error {
			return s.relay().To(m).Call(ctx, relay.Request{Method: http.MethodPut, Path: pathCertificate,
				Body: api.ClusterCertificatePut{ClusterCertificate: cert, ClusterCertificateKey: key}}, nil)
		}) {
			return e
		}
		return s.Identity.Adopt([]byte(cert), []byte(key))
	}
	if err := give(ctx, put.ClusterCertificate, put.ClusterCertificateKey); err != nil {
		if back := give(context.WithoutCancel(ctx), string(old.Cert), string(old.Key)); back != nil {
			s.undoFailed(back)
		}
		return err
	}
	s.Bus.Lifecycle("cluster-certificate-updated", entity.New(entity.Server, ""), by, nil)
	return nil
}
