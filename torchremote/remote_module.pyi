from .dropin.remote_module import RemoteModule as RemoteModule
from .dropin.remote_module import _RemoteModule as _RemoteModule
