from ..dropin.templates import get_remote_module_template as get_remote_module_template
