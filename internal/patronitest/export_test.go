package patronitest

// Dir is where the cluster keeps everything.
func (c *Cluster) Dir() string { return c.dir }

// Keeper is the process that ends the others.
func (c *Cluster) Keeper() int { return c.keeper.cmd.Process.Pid }

// RemoveAbandoned is what every start does first.
func RemoveAbandoned() { removeAbandoned() }
