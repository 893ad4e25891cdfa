"""One loop for everything that is trained: heads, lifted networks and what else learns from scans."""
