package main

import (
	"sort"
	"strings"
	"sync"

	"go-micro.dev/v4/registry"
)

// log is what a watcher saw, as "action version".
type log struct {
	sync.Mutex
	seen []string
}

// created are the versions that came, each once: the order in which they come is nobody's promise.
func (l *log) created() string {
	l.Lock()
	defer l.Unlock()
	unique := map[string]bool{}
	for _, event := range l.seen {
		if strings.HasPrefix(event, "create ") {
			unique[event] = true
		}
	}
	events := make([]string, 0, len(unique))
	for event := range unique {
		events = append(events, event)
	}
	sort.Strings(events)
	return strings.Join(events, ", ")
}

func (l *log) saw(wanted string) bool {
	l.Lock()
	defer l.Unlock()
	for _, event := range l.seen {
		if event == wanted {
			return true
		}
	}
	return false
}

// watch follows the service by Go Micro's own watcher.
func watch(from registry.Registry) (*log, func(), error) {
	watcher, err := from.Watch(registry.WatchService(name))
	if err != nil {
		return nil, nil, err
	}
	events := &log{}
	go func() {
		for {
			result, err := watcher.Next()
			if err != nil {
				return
			}
			events.Lock()
			events.seen = append(events.seen, result.Action+" "+result.Service.Version)
			events.Unlock()
		}
	}()
	return events, watcher.Stop, nil
}
