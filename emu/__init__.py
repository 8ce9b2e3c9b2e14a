"""The machine: it runs guest code and says why it stopped.  It knows nothing of any kernel."""
