//go:build !linux

package patronitest

import "syscall"

const supported = false

func keeperAttributes() *syscall.SysProcAttr { return nil }

func removeAbandoned() {}

func freezeWithin(string) error { return errNotSupported }

func thawWithin(string) error { return errNotSupported }

func killWithin(string) error { return errNotSupported }

func killProcess(int) error { return errNotSupported }

func alive(int) bool { return false }
