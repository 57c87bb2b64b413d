// Operators of TorchScript that look at a tensor before it is sent, as jit/runtime/ordinary.py does without them: that
// takes a dozen operators of torch, each of which is dispatched.
#include <ATen/EmptyTensor.h>
#include <ATen/core/Tensor.h>
#include <c10/core/DispatchKeySet.h>
#include <c10/core/GradMode.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/csrc/jit/runtime/custom_operator.h>

namespace {

using c10::DispatchKey;
using torch::jit::Operator;
using torch::jit::Stack;

// What torch dispatches for plain tensors on the CPU. Others have further keys: fake tensors and subclasses, nested,
// sparse and quantized ones, those that are conjugated or negated lazily, ZeroTensors, and those of torch.func.
const auto plain = c10::DispatchKeySet(
                       {DispatchKey::CPU,
                        DispatchKey::AutogradCPU,
                        DispatchKey::AutocastCPU,
                        DispatchKey::ADInplaceOrView})
                       .raw_repr();

bool is_storage_there(const at::Tensor& value) {
  return value.has_storage() && value.storage().nbytes() > 0 && value.storage().data() != nullptr;
}

bool is_storage_large_enough(const at::Tensor& value) {
  auto offset = static_cast<size_t>(value.storage_offset());
  auto itemsize = value.dtype().itemsize();
  return value.storage().nbytes() >= at::detail::computeStorageNbytes(value.sizes(), value.strides(), itemsize, offset);
}

// Says whether the storage of a tensor has elements, and raises if they are too few. A subclass whose values are
// elsewhere has none. It would answer the operators of torch for the tensor in which they are.
bool has_room(const at::Tensor& value) {
  if (!is_storage_there(value)) {
    return value.key_set().has(DispatchKey::ZeroTensor); // of which a copy is sent, in inference mode
  }
  if (!is_storage_large_enough(value)) {
    value.unsqueeze(0); // raises
  }
  return true;
}

// Says whether a tensor is one of nearly all, which can be sent as they are: a dense one on the CPU, of a dtype that
// torch can copy, whose storage is there and large enough. See jit/runtime/tensors.py, Note [Tensors that hurt].
bool is_ordinary(const at::Tensor& value) {
  if (!value.defined() || (value.key_set().raw_repr() & ~plain) != 0 || value.numel() == 0) {
    return false;
  }
  auto dtype = value.scalar_type();
  bool is_common = dtype < c10::ScalarType::QInt8 || dtype == c10::ScalarType::BFloat16;
  return is_common && is_storage_there(value) && is_storage_large_enough(value);
}

at::Tensor like_it(const at::Tensor& copy, const at::Tensor& value) {
  bool differs = value.requires_grad() && !copy.requires_grad() && !value.is_inference();
  return differs ? at::Tensor(copy).requires_grad_() : copy;
}

// Returns another tensor with the storage of `value`: see jit/runtime/tensors.py, Note [Tensors that Python knows].
at::Tensor unknown_to_python(const at::Tensor& value) {
  if (value.requires_grad() && c10::GradMode::is_enabled()) {
    return value;
  }
  // A mode of Python's, as FakeTensorMode, would make the tensor, with the GIL.
  c10::impl::ExcludeDispatchKeyGuard without_python(
      c10::DispatchKeySet({DispatchKey::Python, DispatchKey::PythonTLSSnapshot}));
  return like_it(value.variable_data(), value);
}

// Makes the operation of one of these functions.
template <auto function>
void run(Stack& stack) {
  auto value = torch::jit::pop(stack).toTensor();
  torch::jit::push(stack, function(value));
}

void run_like_it(Stack& stack) {
  auto value = torch::jit::pop(stack).toTensor();
  auto copy = torch::jit::pop(stack).toTensor();
  torch::jit::push(stack, like_it(copy, value));
}

const auto as_declared = c10::AliasAnalysisKind::FROM_SCHEMA;

const torch::jit::RegisterOperators registered({
    Operator("torchremote_native::has_room(Tensor value) -> bool", run<has_room>, as_declared),
    Operator("torchremote_native::is_ordinary(Tensor value) -> bool", run<is_ordinary>, as_declared),
    Operator("torchremote_native::like_it(Tensor(a) copy, Tensor value) -> Tensor(a)", run_like_it, as_declared),
    Operator(
        "torchremote_native::unknown_to_python(Tensor(a) value) -> Tensor(a)", run<unknown_to_python>, as_declared),
});

} // namespace
