"""A page in which features can be looked at and asked, and its server."""

from featlift.pictures.viewer.scene import Scene
from featlift.pictures.viewer.serving import Server
from featlift.pictures.viewer.writing import write_view

__all__ = ["Scene", "Server", "write_view"]
