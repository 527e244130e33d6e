package client_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http/httptest"
	"os"

	"sett/client"
	"sett/client/clienttest"
	"sett/shared/api"
	"sett/shared/keypair"
)

// network is a server on the network that plays the part of a real one, and what a
// client needs to know of it.
func network() (address, certificate string, stop func()) {
	s := clienttest.Play()
	s.Sync("GET /1.0/instances?recursion=1", []api.Instance{{Name: "c1", Status: "Running"}, {Name: "c2", Status: "Stopped"}})
	s.Async("POST /1.0/instances", api.Operation{})
	s.Async("PUT /1.0/instances/c1/state", api.Operation{})
	s.Exec("c1", map[string]clienttest.Command{"hostname": {Stdout: "c1\n"}})
	s.Async("POST /1.0/certificates", api.Operation{Class: "token", Metadata: map[string]any{
		"secret": "5ec1e7", "fingerprint": "0123456789ab", "addresses": []string{"10.0.0.1:8443"}, "request": map[string]any{"name": "laptop"}}})
	s.Sync("GET /1.0/profiles/default", api.Profile{Name: "default"})
	s.Sync("PUT /1.0/profiles/default", nil)
	srv := httptest.NewTLSServer(s)
	return srv.URL, string(keypair.EncodeCert(srv.Certificate().Raw)), srv.Close
}

func Example() {
	address, certificate, stop := network()
	defer stop()
	pair, err := keypair.NewClient() // a program keeps its pair, as the server knows the certificate
	if err != nil {
		fmt.Println(err)
		return
	}
	c, err := client.ConnectLXD(address, &client.ConnectionArgs{
		TLSServerCert: certificate, TLSClientCert: string(pair.Cert), TLSClientKey: string(pair.Key),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Disconnect()
	instances, err := c.GetInstances(api.InstanceTypeAny)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, i := range instances {
		fmt.Println(i.Name, i.Status)
	}
	// Output:
	// c1 Running
	// c2 Stopped
}

// example connects to the played server.
func example() (client.InstanceServer, func()) {
	address, certificate, stop := network()
	c, err := client.ConnectLXD(address, &client.ConnectionArgs{TLSServerCert: certificate})
	if err != nil {
		panic(err)
	}
	return c, func() { c.Disconnect(); stop() }
}

// A server on this machine is reached through its socket. The empty path means the
// usual one.
func ExampleConnectLXDUnix() {
	_, err := client.ConnectLXDUnix("/nowhere/unix.socket", nil)
	fmt.Println(err)
	// Output: Get "http://unix.socket/1.0": dial unix /nowhere/unix.socket: connect: no such file or directory
}

// Before a server's certificate is known, somebody compares its fingerprint.
func ExampleGetRemoteCertificate() {
	address, certificate, stop := network()
	defer stop()
	cert, vouched, err := client.GetRemoteCertificate(context.Background(), address, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(len(keypair.Fingerprint(cert)), vouched, string(keypair.EncodeCert(cert.Raw)) == certificate)
	// Output: 64 false true
}

// What takes long comes back as an operation.
func ExampleProtocolLXD_CreateInstance() {
	c, stop := example()
	defer stop()
	op, err := c.CreateInstance(api.InstancesPost{
		Name:   "c1",
		Source: api.InstanceSource{Type: "image", Alias: "debian"},
	})
	if err == nil {
		err = op.Wait()
	}
	if err != nil {
		fmt.Println(err)
		return
	}
	op, err = c.UpdateInstanceState("c1", api.InstanceStatePut{Action: "start", Timeout: -1}, "")
	if err == nil {
		err = op.Wait()
	}
	fmt.Println("running", err)
	// Output: running <nil>
}

// nothingToClose makes a Close out of any writer.
type nothingToClose struct{ io.Writer }

func (nothingToClose) Close() error { return nil }

// A command's streams are the program's own; its exit code stands in the operation.
func ExampleProtocolLXD_ExecInstance() {
	c, stop := example()
	defer stop()
	done := make(chan bool)
	op, err := c.ExecInstance("c1", api.InstanceExecPost{Command: []string{"hostname"}, WaitForWS: true},
		&client.InstanceExecArgs{Stdin: io.NopCloser(&bytes.Buffer{}), Stdout: nothingToClose{os.Stdout}, Stderr: nothingToClose{os.Stderr}, DataDone: done})
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := op.Wait(); err != nil {
		fmt.Println(err)
		return
	}
	<-done
	fmt.Println("exit code", op.Get().Metadata["return"])
	// Output:
	// c1
	// exit code 0
}

// The ETag refuses a change of something that has changed since it was read.
func ExampleProtocolLXD_UpdateProfile() {
	c, stop := example()
	defer stop()
	profile, etag, err := c.GetProfile("default")
	if err != nil {
		fmt.Println(err)
		return
	}
	put := profile.Writable()
	put.Config = map[string]string{"limits.memory": "1GiB"}
	fmt.Println(c.UpdateProfile("default", put, etag))
	// Output: <nil>
}

// A token lets another client trust itself, once.
func ExampleProtocolLXD_CreateCertificateToken() {
	c, stop := example()
	defer stop()
	op, err := c.CreateCertificateToken(api.CertificatesPost{CertificatePut: api.CertificatePut{Name: "laptop", Type: "client"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	o := op.Get()
	token, err := o.ToCertificateAddToken()
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(token.ClientName, token.Addresses)
	// Output: laptop [10.0.0.1:8443]
}
