"""Key rollover: the state of each key, and the steps from one state to the next."""
