"""Raw request rows and their recent history in, the very numbers of batch out, over HTTP."""
