"""Azure Arc cluster connect: the vendor's proxy program, driven; az in its place where that is not possible."""
