package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"sort"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/go-micro/plugins/v4/registry/consul"
	"github.com/hashicorp/consul/api"
	"go-micro.dev/v4/client"
	"go-micro.dev/v4/registry"
	"go-micro.dev/v4/registry/cache"
	"go-micro.dev/v4/selector"
)

const (
	name = "library.greeter"
	// Gossip takes milliseconds; a TTL has to run out; Consul may take a second to sync.
	patience = 10 * time.Second
	calls    = 40
)

// await asks until the answer is the expected one.
func await(what, expected string, probe func() string) error {
	found := ""
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if found = probe(); found == expected {
			fmt.Println("  " + what + ": " + found)
			return nil
		}
	}
	return fmt.Errorf("%s: expected %q within %s, found %q", what, expected, patience, found)
}

// start runs one service as a process of its own.
func start(agent, id, version string) (*exec.Cmd, error) {
	command := exec.Command(os.Args[0], "serve", agent, name, id, version)
	command.Stderr = os.Stderr
	return command, command.Start()
}

func check(writes, reads string) error {
	there := consul.NewRegistry(registry.Addrs(reads))
	events, stop, err := watch(there)
	if err != nil {
		return err
	}
	defer stop()

	first, err := start(writes, "one", "1.0.0")
	if err != nil {
		return err
	}
	defer func() { _ = first.Process.Kill() }()
	second, err := start(writes, "two", "2.0.0")
	if err != nil {
		return err
	}
	defer func() { _ = second.Process.Kill() }()

	both := name + "-one " + name + "-two"
	if err := await("both services at the other agent", both, func() string { return nodes(there) }); err != nil {
		return err
	}
	if err := describes(there); err != nil {
		return err
	}
	if err := await("what the watcher saw", "create 1.0.0, create 2.0.0", events.created); err != nil {
		return err
	}
	caller, requests, done := cached(reads)
	defer done()
	if err := await("who answers", both, func() string { return answers(caller) }); err != nil {
		return err
	}
	if before, after := requests.Load(), spread(caller, requests); after > before+2 {
		return fmt.Errorf("%d calls with a cache: expected at most 2 requests to the agent, found %d", calls, after-before)
	}
	if err := renews(writes, there, both); err != nil {
		return err
	}
	return ends(there, caller, events, first, second)
}

// renews proves that a service which its agent forgot comes back by its next beat.
func renews(writes string, there registry.Registry, both string) error {
	time.Sleep(2 * ttl)
	if found := nodes(there); found != both {
		return fmt.Errorf("after two TTLs of renewals: expected %q, found %q", both, found)
	}
	agent, err := api.NewClient(&api.Config{Address: writes})
	if err != nil {
		return err
	}
	if err := agent.Agent().ServiceDeregister(name + "-one"); err != nil {
		return err
	}
	return await("a forgotten service registers again", both, func() string { return nodes(there) })
}

// ends stops one service and kills the other: the first leaves at once, the second when its TTL has run out.
func ends(there registry.Registry, caller client.Client, events *log, first, second *exec.Cmd) error {
	if err := first.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	if err := first.Wait(); err != nil {
		return fmt.Errorf("the stopped service ended with %w", err)
	}
	if err := await("after one was stopped", name+"-two", func() string { return nodes(there) }); err != nil {
		return err
	}
	if err := await("who answers then", name+"-two", func() string { return answers(caller) }); err != nil {
		return err
	}
	if err := await("the watcher saw it go", "true", func() string { return fmt.Sprint(events.saw("delete 1.0.0")) }); err != nil {
		return err
	}
	killed := time.Now()
	if err := second.Process.Kill(); err != nil {
		return err
	}
	_ = second.Wait()
	if err := await("after the other was killed", "", func() string { return nodes(there) }); err != nil {
		return err
	}
	if took := time.Since(killed); took < interval {
		return fmt.Errorf("the killed service left after %s: expected the TTL of %s to matter", took, ttl)
	}
	return await("who answers then", "error", func() string { return answers(caller) })
}

// nodes are the ids of the service's nodes, as a registry tells them.
func nodes(from registry.Registry) string {
	services, err := from.GetService(name)
	if err != nil && err != registry.ErrNotFound {
		return err.Error()
	}
	var ids []string
	for _, service := range services {
		for _, node := range service.Nodes {
			ids = append(ids, node.Id)
		}
	}
	sort.Strings(ids)
	return strings.Join(ids, " ")
}

// describes checks that versions, endpoints with their schemas, and metadata came through; and the list of names.
func describes(from registry.Registry) error {
	services, err := from.GetService(name)
	if err != nil {
		return err
	}
	versions := map[string]bool{}
	for _, service := range services {
		versions[service.Version] = true
		if len(service.Endpoints) != 1 || service.Endpoints[0].Name != "Greeter.Hello" || len(service.Endpoints[0].Request.Values) != 1 {
			return fmt.Errorf("endpoints of %s: expected Greeter.Hello with one field, found %+v", service.Version, service.Endpoints)
		}
		for _, node := range service.Nodes {
			if expected := "upper " + strings.TrimPrefix(node.Id, name+"-"); node.Metadata["shelf"] != expected {
				return fmt.Errorf("metadata of %s: expected shelf %q, found %v", node.Id, expected, node.Metadata)
			}
		}
	}
	if !versions["1.0.0"] || !versions["2.0.0"] {
		return fmt.Errorf("versions: expected 1.0.0 and 2.0.0, found %v", versions)
	}
	list, err := from.ListServices()
	if err != nil {
		return err
	}
	for _, service := range list {
		if service.Name == name {
			return nil
		}
	}
	return fmt.Errorf("list: expected %s, found %v", name, list)
}

// cached is a client whose selector keeps what the registry said, and the number of requests that reached the agent.
func cached(agent string) (client.Client, *atomic.Int64, func()) {
	requests := &atomic.Int64{}
	target := &url.URL{Scheme: "http", Host: agent}
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.FlushInterval = -1
	counting := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Only lookups count: a watch asks again after each change.
		if strings.HasPrefix(r.URL.Path, "/v1/health/service/") && r.URL.Query().Get("index") == "" {
			requests.Add(1)
		}
		proxy.ServeHTTP(w, r)
	}))
	from := cache.New(consul.NewRegistry(registry.Addrs(counting.Listener.Addr().String())))
	choose := selector.NewSelector(selector.Registry(from), selector.SetStrategy(selector.RoundRobin))
	caller := client.NewClient(client.Registry(from), client.Selector(choose), client.ContentType("application/json"), client.Retries(0))
	return caller, requests, func() {
		from.Stop()
		counting.CloseClientConnections()
	}
}

// answers are the ids of those that answered a round of calls, or "error" if none did.
func answers(caller client.Client) string {
	found := map[string]bool{}
	for range [8]int{} {
		var response Response
		request := caller.NewRequest(name, "Greeter.Hello", &Request{Name: "reader"})
		if err := caller.Call(context.Background(), request, &response, client.WithRequestTimeout(time.Second)); err != nil {
			found["error"] = true
		} else if response.Text == "Hello reader" {
			found[response.By] = true
		}
	}
	ids := make([]string, 0, len(found))
	for id := range found {
		ids = append(ids, id)
	}
	sort.Strings(ids)
	return strings.Join(ids, " ")
}

// spread calls many times and tells how many requests reached the agent until then.
func spread(caller client.Client, requests *atomic.Int64) int64 {
	for range [calls / 8]int{} {
		answers(caller)
	}
	return requests.Load()
}
