// A stranger's HBONE peer for the tests, on golang.org/x/net/http2: a client, a server, and a forwarder that lends
// programs without a client certificate one. Each prints its listening address as its first line and runs until its
// standard input ends.
//
//	hbone-peer server  <folder> [<listen>]           HBONE server: dials the authority of each CONNECT
//	hbone-peer client  <folder> <server> <identity>  HTTP/1.1 CONNECT proxy in front of tunnels to <server>
//	hbone-peer forward <folder> <server>             plain TCP to TLS with the client certificate and ALPN h2
//
// The folder holds key.pem, cert-chain.pem and root-cert.pem. Without <listen> it is a free port of 127.0.0.1.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 2 {
		return errors.New("usage: hbone-peer server|client|forward <folder> ...")
	}
	config, err := tlsConfig(args[1])
	if err != nil {
		return err
	}
	listen := "127.0.0.1:0"
	if args[0] == "server" && len(args) == 3 {
		listen = args[2]
	}
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	var serve func(net.Conn)
	switch {
	case args[0] == "server":
		serve = hboneServer(config)
	case args[0] == "client" && len(args) == 4:
		serve = hboneClient(config, args[2], args[3])
	case args[0] == "forward" && len(args) == 3:
		serve = forwarder(config, args[2])
	default:
		return fmt.Errorf("wrong arguments: %v", args)
	}
	fmt.Println(listener.Addr())
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		go serve(conn)
	}
}

// tlsConfig is good for both roles; a client adds its own check of the server's identity.
func tlsConfig(folder string) (*tls.Config, error) {
	certificate, err := tls.LoadX509KeyPair(filepath.Join(folder, "cert-chain.pem"), filepath.Join(folder, "key.pem"))
	if err != nil {
		return nil, err
	}
	pem, err := os.ReadFile(filepath.Join(folder, "root-cert.pem"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, errors.New("root-cert.pem has no certificate")
	}
	return &tls.Config{
		Certificates: []tls.Certificate{certificate},
		RootCAs:      roots,
		ClientCAs:    roots,
		ClientAuth:   tls.RequireAndVerifyClientCert,
		NextProtos:   []string{"h2"},
		MinVersion:   tls.VersionTLS13,
	}, nil
}

// dialTLS connects and verifies the chain; identity, when given, must be the one URI of the server's certificate.
func dialTLS(config *tls.Config, server, identity string) (*tls.Conn, error) {
	client := config.Clone()
	client.InsecureSkipVerify = true // names are checked below: SPIFFE certificates have none of the usual kind
	client.VerifyConnection = func(state tls.ConnectionState) error {
		leaf := state.PeerCertificates[0]
		intermediates := x509.NewCertPool()
		for _, certificate := range state.PeerCertificates[1:] {
			intermediates.AddCert(certificate)
		}
		options := x509.VerifyOptions{Roots: config.RootCAs, Intermediates: intermediates}
		if _, err := leaf.Verify(options); err != nil {
			return err
		}
		if identity != "" && (len(leaf.URIs) != 1 || leaf.URIs[0].String() != identity) {
			return fmt.Errorf("the server is %v, not %s", leaf.URIs, identity)
		}
		return nil
	}
	return tls.Dial("tcp", server, client)
}
