package main

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http2"
)

// hboneClient is an HTTP/1.1 CONNECT proxy: each connection becomes a stream of one HTTP/2 session to the server. It
// answers with the status the server gave, or 502.
func hboneClient(config *tls.Config, server, identity string) func(net.Conn) {
	session := sync.OnceValues(func() (*http2.ClientConn, error) {
		conn, err := dialTLS(config, server, identity)
		if err != nil {
			return nil, err
		}
		transport := &http2.Transport{MaxReadFrameSize: 1 << 20, StrictMaxConcurrentStreams: true}
		return transport.NewClientConn(conn)
	})
	return func(conn net.Conn) {
		client := conn.(*net.TCPConn)
		defer client.Close()
		reader := bufio.NewReader(client)
		line, err := reader.ReadString('\n')
		if err != nil {
			return
		}
		if _, err = reader.ReadString('\n'); err != nil {
			return
		}
		fields := strings.Fields(line)
		cc, err := session()
		if err != nil || len(fields) < 2 {
			fmt.Fprint(client, "HTTP/1.1 502 -\r\n\r\n")
			return
		}
		openTunnel(cc, client, reader, fields[1])
	}
}

// requestBody tells when the session is done with it; a read that waits then ends, as the session expects.
type requestBody struct {
	io.Reader
	client *net.TCPConn
	closed chan struct{}
	once   sync.Once
}

func (b *requestBody) Close() error {
	b.once.Do(func() { close(b.closed) })
	return b.client.SetReadDeadline(time.Now())
}

func openTunnel(cc *http2.ClientConn, client *net.TCPConn, reader io.Reader, authority string) {
	body := &requestBody{Reader: reader, client: client, closed: make(chan struct{})}
	request := &http.Request{
		Method: http.MethodConnect,
		URL:    &url.URL{Scheme: "https", Host: authority},
		Host:   authority,
		Header: http.Header{},
		Body:   body,
	}
	response, err := cc.RoundTrip(request)
	if err != nil {
		fmt.Fprint(client, "HTTP/1.1 502 -\r\n\r\n")
		return
	}
	defer response.Body.Close()
	fmt.Fprintf(client, "HTTP/1.1 %d -\r\n\r\n", response.StatusCode)
	if response.StatusCode != http.StatusOK {
		return
	}
	if _, err := io.Copy(client, response.Body); err != nil {
		client.SetLinger(0)
		return
	}
	client.CloseWrite()
	<-body.closed // the application may go on sending
}
