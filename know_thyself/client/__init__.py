"""Ask a judge: in this process, or (later) over HTTP."""
