// Go Micro for real: whole services that register at one agent and are called through another.
//
//	interop check               all that is checked; agents by WRITE_HTTP and READ_HTTP
//	interop serve AGENT NAME ID VERSION
package main

import (
	"fmt"
	"os"
)

func main() {
	var err error
	switch {
	case len(os.Args) == 2 && os.Args[1] == "check":
		err = check(os.Getenv("WRITE_HTTP"), os.Getenv("READ_HTTP"))
	case len(os.Args) == 6 && os.Args[1] == "serve":
		err = serve(os.Args[2], os.Args[3], os.Args[4], os.Args[5])
	default:
		err = fmt.Errorf("usage: %s check | serve AGENT NAME ID VERSION", os.Args[0])
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}
