package main

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"

	"golang.org/x/net/http2"
)

// hboneServer answers CONNECT with 200 once the authority was dialled, else 400 or 503. The library ends a response only
// when its handler returns, and then also stops the request, so this server waits for the client to end first.
func hboneServer(config *tls.Config) func(net.Conn) {
	server := &http2.Server{MaxConcurrentStreams: 100, MaxReadFrameSize: 1 << 20, MaxUploadBufferPerStream: 1 << 20}
	handler := http.HandlerFunc(serveTunnel)
	return func(conn net.Conn) {
		secure := tls.Server(conn, config)
		if secure.Handshake() != nil {
			conn.Close()
			return
		}
		server.ServeConn(secure, &http2.ServeConnOpts{Handler: handler})
	}
}

func serveTunnel(response http.ResponseWriter, request *http.Request) {
	if _, _, err := net.SplitHostPort(request.Host); request.Method != http.MethodConnect || err != nil {
		response.WriteHeader(http.StatusBadRequest)
		return
	}
	dialled, err := net.Dial("tcp", request.Host)
	if err != nil {
		response.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	application := dialled.(*net.TCPConn)
	defer application.Close()
	response.WriteHeader(http.StatusOK)
	http.NewResponseController(response).Flush()
	received := make(chan struct{})
	go func() {
		defer close(received)
		if _, err := io.Copy(application, request.Body); err != nil {
			application.SetLinger(0)
			application.Close()
			return
		}
		application.CloseWrite()
	}()
	if _, err := io.Copy(flushing{response}, application); err != nil {
		panic(http.ErrAbortHandler) // becomes RST_STREAM
	}
	<-received
}

// flushing sends what was written at once.
type flushing struct{ http.ResponseWriter }

func (w flushing) Write(bytes []byte) (int, error) {
	count, err := w.ResponseWriter.Write(bytes)
	if err == nil {
		err = http.NewResponseController(w.ResponseWriter).Flush()
	}
	return count, err
}
