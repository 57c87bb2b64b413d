// Operators of TorchScript that look at a tensor before it is sent, as jit/runtime/ordinary.py does without them: that
// takes a dozen operators of torch, each of which is dispatched.
#include <ATen/EmptyTensor.h>
#include <ATen/core/Tensor.h>
#include <c10/core/DispatchKeySet.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/jit/runtime/custom_operator.h>

namespace {

using c10::DispatchKey;
using torch::jit::Operator;
using torch::jit::Stack;

// What torch dispatches for plain tensors on the CPU. Others have further keys: fake tensors and subclasses, nested,
// sparse and quantized ones, ZeroTensors, and those of torch.func.
const auto plain = c10::DispatchKeySet(
                       {DispatchKey::CPU,
                        DispatchKey::AutogradCPU,
                        DispatchKey::AutocastCPU,
                        DispatchKey::ADInplaceOrView,
                        DispatchKey::Conjugate,
                        DispatchKey::Negative})
                       .raw_repr();

// Says whether a tensor is one of nearly all, which can be sent as they are: a dense one on the CPU, of a dtype that
// torch can copy, whose storage is there and large enough. See jit/runtime/tensors.py, Note [Tensors that hurt].
bool is_ordinary(const at::Tensor& value) {
  if (!value.defined() || (value.key_set().raw_repr() & ~plain) != 0 || value.numel() == 0 || !value.has_storage()) {
    return false;
  }
  auto dtype = value.scalar_type();
  if (dtype >= c10::ScalarType::QInt8 && dtype != c10::ScalarType::BFloat16) {
    return false;
  }
  const auto& storage = value.storage();
  auto needed = at::detail::computeStorageNbytes(
      value.sizes(), value.strides(), value.dtype().itemsize(), static_cast<size_t>(value.storage_offset()));
  return storage.data() != nullptr && storage.nbytes() >= needed;
}

// Returns another tensor with the storage of `value`: see jit/runtime/tensors.py, Note [Tensors that Python knows].
at::Tensor unknown_to_python(const at::Tensor& value) {
  if (!value.requires_grad()) {
    return value.variable_data();
  }
  return c10::GradMode::is_enabled() ? value : value.variable_data().requires_grad_();
}

const auto as_declared = c10::AliasAnalysisKind::FROM_SCHEMA;

const torch::jit::RegisterOperators registered({
    Operator(
        "torchremote_native::is_ordinary(Tensor value) -> bool",
        [](Stack& stack) { torch::jit::push(stack, is_ordinary(torch::jit::pop(stack).toTensor())); },
        as_declared),
    Operator(
        "torchremote_native::unknown_to_python(Tensor(a) value) -> Tensor(a)",
        [](Stack& stack) { torch::jit::push(stack, unknown_to_python(torch::jit::pop(stack).toTensor())); },
        as_declared),
});

} // namespace
