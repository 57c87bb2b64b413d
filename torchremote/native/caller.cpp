// Operators of TorchScript, for a caller whose calls do not wait for its Python.
//
// TorchScript's own prim::rpc_async takes the caller's GIL once a call, to find the target's schema among the functions
// of Python. It needs the type of the result alone, and `send` has that from its own node. Both call torch's
// rpcTorchscript, so timeouts, gradients, device maps and the profiler are torch's.
//
// This is the caller's part: owners need nothing of it. It uses libtorch, and one function of Python's stable ABI.
#include "following.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include <ATen/core/grad_mode.h>
#include <c10/core/InferenceMode.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/csrc/distributed/rpc/torchscript_functions.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/runtime/custom_operator.h>
#include <torch/csrc/profiler/orchestration/observer.h>

// Declared here, so that nobody needs the headers of Python to compile this.
extern "C" void* PyGILState_GetThisThreadState();

namespace {

using c10::DispatchKey;
using c10::IValue;
using c10::ivalue::Future;
using torch::jit::Node;
using torch::jit::Operation;
using torch::jit::Operator;
using torch::jit::Stack;
using torchremote::Target;

struct Arrival {
  std::mutex mutex;
  std::condition_variable changed;
  bool is_there = false;
};

// What this thread has waited for, and not seen arrive. The Future's callback owns the Arrival: while that exists, the
// address is of the same Future.
thread_local std::vector<std::pair<const Future*, std::weak_ptr<Arrival>>> awaited;

// Returns the Arrival of a Future. All turns of a wait share one: the Future would keep a callback for each of them.
std::shared_ptr<Arrival> arrival_of(Future& pending) {
  for (const auto& [future, its] : awaited) {
    auto arrival = its.lock();
    if (arrival && future == &pending) {
      return arrival;
    }
  }
  auto is_gone = [](const auto& one) { return one.second.expired(); };
  awaited.erase(std::remove_if(awaited.begin(), awaited.end(), is_gone), awaited.end());
  auto arrival = std::make_shared<Arrival>();
  awaited.emplace_back(&pending, arrival);
  pending.addCallback(
      [arrival](Future&) {
        {
          std::lock_guard<std::mutex> lock(arrival->mutex);
          arrival->is_there = true;
        }
        arrival->changed.notify_one();
      },
      /*uses_future=*/false);
  return arrival;
}

// Waits for so many seconds at most. Returns whether the Future has a value or an error.
bool has_arrived(Future& pending, double seconds) {
  if (pending.completed()) {
    return true;
  }
  auto arrival = arrival_of(pending);
  std::unique_lock<std::mutex> lock(arrival->mutex);
  auto limit = std::chrono::duration<double>(seconds);
  return arrival->changed.wait_for(lock, limit, [&] { return arrival->is_there; });
}

// Seconds for which the next call of this thread waits for its answer before it returns the Future.
thread_local double patience = 0;

// The keys of a thread with a mode of Python's, as FakeTensorMode, or with a transform of torch.func.
constexpr c10::DispatchKeySet modes(
    {DispatchKey::Python,
     DispatchKey::PythonTLSSnapshot,
     DispatchKey::FuncTorchDynamicLayerFrontMode,
     DispatchKey::FuncTorchDynamicLayerBackMode});

// Says whether nothing on this thread concerns a call from Python: no profiler, mode, transform of torch.func, or
// autocast. All but the profiler show in the keys for which torch dispatches here.
bool is_usual() {
  constexpr c10::DispatchKeySet without_autocast({DispatchKey::AutocastCPU, DispatchKey::AutocastCUDA});
  auto keys = c10::impl::tls_local_dispatch_key_set();
  return !keys.included_.has_any(modes) && keys.excluded_.has_all(without_autocast) &&
      !torch::profiler::impl::profilerEnabled();
}

// Says whether a value has a tensor that requires a gradient: autograd may record that it is sent.
bool requires_grad(const IValue& value) {
  bool found = false;
  value.visit([&](const IValue& part) {
    found = found || (part.isTensor() && part.toTensor().defined() && part.toTensor().requires_grad());
    return found; // that is, whether to go no deeper
  });
  return found;
}

// send(worker, endpoint, timeout, like, route, *arguments): sends a call, and returns the Future of its answer.
// `endpoint` is a literal. `like`, an empty list of the type of the answer, is for the compiler alone. `route` is None
// for a module that cannot be found again: see following.cpp.
Operation send(const Node* node) {
  c10::QualifiedName endpoint(torch::jit::toIValue(node->input(1)).value().toStringRef());
  auto returned = node->output()->type()->expectRef<c10::FutureType>().getElementType();
  c10::FunctionSchema schema("", "", {}, {c10::Argument("", returned)});
  auto target = std::make_shared<const Target>(Target{std::move(endpoint), std::move(schema)});
  auto count = node->inputs().size();
  return [target = std::move(target), count](Stack& stack) {
    auto given = torch::jit::last(stack, count);
    std::string worker = given[0].toStringRef();
    auto timeout = static_cast<float>(given[2].toDouble());
    IValue route = given[4];
    std::vector<IValue> arguments(given.begin() + 5, given.end());
    torch::jit::drop(stack, count);
    auto seconds = std::exchange(patience, 0);
    auto kept = at::GradMode::is_enabled() && std::any_of(arguments.begin(), arguments.end(), requires_grad)
        ? arguments
        : std::vector<IValue>();
    // Answers that are there already are read in this thread, those of other threads' calls, too. A mode, or a transform
    // of torch.func, would take part in that, and what it raised there would end the process. Inference mode would make
    // tensors of inference.
    c10::impl::ExcludeDispatchKeyGuard without_modes(modes);
    std::optional<c10::InferenceMode> without_inference;
    std::optional<at::NoGradGuard> without_gradients; // inference mode has none, either
    if (c10::InferenceMode::is_enabled()) {
      without_inference.emplace(false);
      without_gradients.emplace();
    }
    auto answer = route.isNone() ? torch::distributed::rpc::rpcTorchscript(
                                       worker, target->endpoint, target->schema, std::move(arguments), timeout)
                                 : torchremote::send_by_route(route, target, std::move(arguments), timeout);
    if (!kept.empty()) { // see caller/messages/kept_tensors.py
      answer->addCallback([kept = std::move(kept)](Future&) {}, /*uses_future=*/false);
    }
    if (seconds > 0) {
      has_arrived(*answer, seconds);
    }
    torch::jit::push(stack, std::move(answer));
  };
}

// wait_here(pending): waits in this thread, if it is one of Python's, and returns whether it is. Such a thread waits
// for what it called in any case. Threads of RPC, and those of torch.jit.fork, go on with other work instead, and
// TorchScript's own wait lets them.
void wait_here(Stack& stack) {
  auto pending = torch::jit::pop(stack).toFuture();
  bool is_pythons = PyGILState_GetThisThreadState() != nullptr;
  if (is_pythons) {
    pending->wait();
  }
  torch::jit::push(stack, is_pythons);
}

// wait_for(pending, seconds): waits for so long at most. Returns whether the Future has a value or an error.
void wait_for(Stack& stack) {
  auto seconds = torch::jit::pop(stack).toDouble();
  auto pending = torch::jit::pop(stack).toFuture();
  torch::jit::push(stack, has_arrived(*pending, seconds));
}

// pass_on(answer, later): gives `later` the value of `answer` when it is there, or None if `answer` has an error.
void pass_on(Stack& stack) {
  auto later = torch::jit::pop(stack).toFuture();
  auto answer = torch::jit::pop(stack).toFuture();
  answer->addCallback([later](Future& answer) {
    try {
      if (answer.hasError()) {
        later->markCompleted(IValue());
      } else {
        later->markCompleted(answer.constValue(), answer.storages());
      }
    } catch (const std::exception&) { // a value on a device that `later` does not have, or somebody else completed it
      later->setErrorIfNeeded(std::current_exception());
    }
  });
}

// Calls have effects, so TorchScript may drop none.
const auto effects = c10::AliasAnalysisKind::CONSERVATIVE;

const torch::jit::RegisterOperators registered({
    Operator(
        "torchremote_native::send(str worker, str endpoint, float timeout, t[] like, Any route, ...) -> Future(t)",
        send, effects),
    Operator("torchremote_native::wait_here(Future(t) pending) -> bool", wait_here, effects),
    Operator("torchremote_native::wait_for(Future(t) pending, float seconds) -> bool", wait_for, effects),
    Operator("torchremote_native::pass_on(Future(t) answer, Future(u) later) -> ()", pass_on, effects),
});

} // namespace

// Functions of C, which Python calls in a tenth of the time of an operator.

// Says whether nothing is unusual on this thread. Then the next call of this thread waits so many seconds for its answer
// before it returns the Future: a caller in Python that waits in any case crosses to C++ once less in this way.
extern "C" __attribute__((visibility("default"))) int torchremote_wait_in_next_call(double seconds) {
  bool waits = is_usual();
  patience = waits ? seconds : 0;
  return waits;
}

// Takes `torchremote_wait_in_next_call` back: nothing was sent.
extern "C" __attribute__((visibility("default"))) void torchremote_do_not_wait() {
  patience = 0;
}
