package main

import (
	"crypto/tls"
	"io"
	"net"
)

// forwarder gives each plain connection a TLS connection of its own to the server, with the client certificate.
func forwarder(config *tls.Config, server string) func(net.Conn) {
	return func(plain net.Conn) {
		secure, err := dialTLS(config, server, "")
		if err != nil {
			plain.Close()
			return
		}
		go func() {
			io.Copy(secure, plain)
			secure.CloseWrite()
		}()
		io.Copy(plain, secure)
		plain.Close()
		secure.Close()
	}
}
