package main

import (
	"context"
	"os"
	"time"

	"github.com/go-micro/plugins/v4/registry/consul"
	"go-micro.dev/v4"
	"go-micro.dev/v4/registry"
	"go-micro.dev/v4/server"
)

const (
	ttl      = 2 * time.Second
	interval = 500 * time.Millisecond
)

// Greeter is the service: it tells who answers.
type Greeter struct{ id string }

// Request of Greeter.Hello.
type Request struct {
	Name string `json:"name"`
}

// Response of Greeter.Hello.
type Response struct {
	Text string `json:"text"`
	By   string `json:"by"`
}

// Hello greets.
func (g *Greeter) Hello(_ context.Context, request *Request, response *Response) error {
	response.Text, response.By = "Hello "+request.Name, g.id
	return nil
}

// serve runs a whole Go Micro service until it is told to stop: it registers with a TTL, renews, and deregisters.
func serve(agent, name, id, version string) error {
	service := micro.NewService(
		micro.Name(name),
		micro.Version(version),
		micro.Registry(consul.NewRegistry(registry.Addrs(agent))),
		micro.RegisterTTL(ttl),
		micro.RegisterInterval(interval),
		micro.Metadata(map[string]string{"shelf": "upper " + id}),
	)
	if err := service.Server().Init(server.Id(id), server.Address("127.0.0.1:0")); err != nil {
		return err
	}
	if err := micro.RegisterHandler(service.Server(), &Greeter{id: name + "-" + id}); err != nil {
		return err
	}
	_ = os.Stdout.Sync()
	return service.Run()
}
