// Command shop is the demonstration service: it answers GET / with JSON, and can be told to fail, to be slow or to crash.
//
// Every setting is a flag and an environment variable of the same name in capitals (fail-rate and FAIL_RATE). Only
// requests for / fail or wait; /healthz and /readyz never do, so that an error is seen in the traffic and not as a
// pod that is not ready. It has no metrics of its own: the traffic is counted at the gateway.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

type settings struct {
	listen   string
	message  string
	version  string
	failRate float64
	failCode int
	delay    time.Duration
	drain    time.Duration
	crash    bool
}

type answer struct {
	Message  string `json:"message"`
	Version  string `json:"version"`
	Hostname string `json:"hostname"`
}

func main() {
	s, err := parse()
	if err != nil {
		fmt.Fprintln(os.Stderr, "shop:", err)
		os.Exit(2)
	}
	if s.crash {
		log.Fatalf("shop %s: cannot start: CRASH is set", s.version)
	}
	if err := serve(s); err != nil {
		log.Fatalf("shop %s: %v", s.version, err)
	}
}

// parse reads the flags; a flag that is not given takes the value of its environment variable.
func parse() (settings, error) {
	var s settings
	flag.StringVar(&s.listen, "listen", ":8080", "address to listen on")
	flag.StringVar(&s.message, "message", "hello", "what GET / says in `message`")
	flag.StringVar(&s.version, "version", "1", "what GET / says in `version`")
	flag.Float64Var(&s.failRate, "fail-rate", 0, "share of requests for / that fail, 0 to 1, each drawn on its own")
	flag.IntVar(&s.failCode, "fail-status", http.StatusInternalServerError, "status of a failed request")
	flag.DurationVar(&s.delay, "delay", 0, "time before each answer to a request for /, such as 250ms")
	flag.DurationVar(&s.drain, "drain", 3*time.Second, "time to go on serving after SIGTERM")
	flag.BoolVar(&s.crash, "crash", false, "exit with an error at the start")
	flag.Parse()
	given := map[string]bool{}
	flag.Visit(func(f *flag.Flag) { given[f.Name] = true })
	var failed error
	flag.VisitAll(func(f *flag.Flag) {
		name := strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		if value := os.Getenv(name); value != "" && !given[f.Name] {
			if err := f.Value.Set(value); err != nil {
				failed = fmt.Errorf("%s=%q: %w", name, value, err)
			}
		}
	})
	if failed == nil && (s.failRate < 0 || s.failRate > 1) {
		failed = fmt.Errorf("FAIL_RATE is %g: give a share from 0 to 1", s.failRate)
	}
	if failed == nil && (s.failCode < 400 || s.failCode > 599) {
		failed = fmt.Errorf("FAIL_STATUS is %d: give a status from 400 to 599", s.failCode)
	}
	return s, failed
}

// serve answers until SIGTERM or SIGINT, then goes on for the drain period, asking each client to close its connection.
func serve(s settings) error {
	hostname, err := os.Hostname()
	if err != nil {
		return err
	}
	body, err := json.Marshal(answer{s.message, s.version, hostname})
	if err != nil {
		return err
	}
	var draining atomic.Bool
	mux := http.NewServeMux()
	ok := func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") }
	mux.HandleFunc("GET /healthz", ok)
	mux.HandleFunc("GET /readyz", ok)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		if s.delay > 0 {
			select {
			case <-time.After(s.delay):
			case <-r.Context().Done():
				return
			}
		}
		if draining.Load() {
			w.Header().Set("Connection", "close")
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		if s.failRate > 0 && rand.Float64() < s.failRate {
			w.WriteHeader(s.failCode)
		}
		w.Write(body)
	})
	listener, err := net.Listen("tcp", s.listen)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	log.Printf("shop %s: serving on %s, fail rate %g, delay %s", s.version, listener.Addr(), s.failRate, s.delay)
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	stop() // a second signal ends the process at once
	draining.Store(true)
	log.Printf("shop %s: draining for %s", s.version, s.drain)
	select {
	case err := <-done:
		return err
	case <-time.After(s.drain):
	}
	last, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return server.Shutdown(last)
}
