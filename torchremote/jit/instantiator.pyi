from ..dropin.instantiator import (
    get_arg_return_types_from_interface as get_arg_return_types_from_interface,
)
from ..dropin.instantiator import (
    instantiate_non_scriptable_remote_module_template as instantiate_non_scriptable_remote_module_template,
)
from ..dropin.instantiator import (
    instantiate_scriptable_remote_module_template as instantiate_scriptable_remote_module_template,
)
