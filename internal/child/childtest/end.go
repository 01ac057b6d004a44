package childtest

import (
	"fmt"
	"os"
)

// endVariable makes a test binary start a server and end as it says.
const endVariable = "DBSCOPE_CHILDTEST_END"

// EndBadly is for the beginning of a TestMain. In a child process of [Suite.Run]
// it starts a server that nothing cleans up after, and ends the process.
func EndBadly[S Server](start func() (S, error)) {
	how := os.Getenv(endVariable)
	if how == "" {
		return
	}
	s, err := start()
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(s.Dir())
	switch how {
	case "exits":
		os.Exit(3)
	case "panics":
		go func() { panic("on purpose") }()
	}
	select {} // waits for the kill, or the panic
}
