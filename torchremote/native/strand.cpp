// Calls in turn: the operators with which TorchScript functions run in strands, which strand.h has.
//
// This is the owner's part. A module whose calls run in turn has a strand (jit/lower/in_turn.py). A strand has no
// thread. Whoever brings a call to one that is idle runs it there and then, and changes no thread, if it may (see
// jit/runtime/accelerator.py). Otherwise the call is queued, and a thread that all strands share runs it (threads.cpp).
//
// What a call forks, and what goes on after a wait, is queued in the strand, too: TorchScript hands both to the
// launcher of the call. So a call that waits lets others run, and goes on behind them.
#include "strand.h"

#include <ATen/ThreadLocalState.h>
#include <c10/util/ScopeExit.h>
#include <torch/csrc/distributed/autograd/context/container.h>
#include <torch/csrc/jit/api/compilation_unit.h>
#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/runtime/custom_operator.h>
#include <torch/csrc/jit/runtime/interpreter.h>
#include <torch/custom_class.h>

#include <memory>
#include <mutex>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

namespace {

using c10::IValue;
using c10::ivalue::Future;
using torch::distributed::autograd::DistAutogradContainer;
using torch::jit::Node;
using torch::jit::Operation;
using torch::jit::Operator;
using torch::jit::Stack;
using torchremote::Strand;
using torchremote::Task;
using torchremote::Turn;

// Returns a task that runs `function` as whoever calls this would: with its grad mode, its context of gradients, and so
// on, as at::launch and TorchScript carry them to other threads.
Task as_here(Task function) {
  auto context = DistAutogradContainer::currentContextId();
  return [function = std::move(function), context, state = at::ThreadLocalState()] {
    at::ThreadLocalStateGuard guard(state);
    auto before = DistAutogradContainer::currentContextId();
    DistAutogradContainer::forceCurrentContextId(context);
    auto restore = c10::make_scope_exit([before] { DistAutogradContainer::forceCurrentContextId(before); });
    function();
  };
}

// Gives `result` what `ended` has.
void settle(Future& result, Future& ended) {
  if (ended.hasError()) {
    result.setError(ended.exception_ptr());
  } else {
    result.markCompleted(ended.constValue(), ended.storages());
  }
}

// Runs a function in a strand that has come to it.
void run_in(
    const c10::intrusive_ptr<Strand>& strand, torch::jit::Function& function, Stack arguments,
    const c10::intrusive_ptr<Future>& result) {
  try {
    auto code = torch::jit::toGraphFunction(function).get_executor().getPlanFor(arguments).code;
    torch::jit::InterpreterState state(code, [strand](Task task) { strand->launch(as_here(std::move(task))); });
    state.runAsync(arguments)->addCallback([result](Future& ended) { settle(*result, ended); }, false);
  } catch (const std::exception&) { // it could not be compiled
    result->setErrorIfNeeded(std::current_exception());
  }
}

// in_strand(strand, function, like, may_run_here, *arguments): runs a function of TorchScript in a strand. Returns the
// Future of its result. `function` is the literal of its name. The first argument is an object of the compilation unit
// that has the function. `like`, an empty list of the type of the result, is for the compiler alone. `may_run_here`:
// whether the thread that brings the call may run it.
Operation in_strand(const Node* node) {
  struct Target {
    std::once_flag once;
    torch::jit::Function* function = nullptr;
  };
  c10::QualifiedName name(torch::jit::toIValue(node->input(1)).value().toStringRef());
  auto returned = node->output()->type()->expectRef<c10::FutureType>().getElementType();
  auto count = node->inputs().size();
  auto target = std::make_shared<Target>();
  return [name = std::move(name), returned = std::move(returned), target = std::move(target), count](Stack& stack) {
    auto given = torch::jit::last(stack, count);
    auto strand = given[0].toCustomClass<Strand>();
    bool may_run_here = given[3].toBool();
    Stack arguments(given.begin() + 4, given.end());
    torch::jit::drop(stack, count);
    std::call_once(target->once, [&] {
      target->function = &arguments[0].toObjectRef().type()->compilation_unit()->get_function(name);
    });
    auto result = c10::make_intrusive<Future>(returned);
    auto task = as_here([strand, target, result, arguments = std::move(arguments)]() mutable {
      run_in(strand, *target->function, std::move(arguments), result);
    });
    if (may_run_here) {
      strand->run(std::move(task), *result);
    } else {
      strand->launch(std::move(task));
    }
    torch::jit::push(stack, std::move(result));
  };
}

// The strands of objects, as long as both are there.
class Strands {
  using Object = c10::ivalue::Object;
  using WeakObject = c10::weak_intrusive_ptr<Object>;
  using WeakStrand = c10::weak_intrusive_ptr<Strand>;
  struct Entry {
    WeakObject object; // which keeps its address from others
    WeakStrand strand;
  };

 public:
  // Returns the strand of a module: `strand`, if that is one; else that of the modules with which it shares an object;
  // else a new one. Returns nothing if objects of the module have different strands.
  c10::intrusive_ptr<Strand> join(const IValue& module, c10::intrusive_ptr<Strand> strand) {
    std::lock_guard<std::mutex> lock(mutex_);
    std::unordered_set<Object*> objects;
    bool agree = true;
    module.visit([&](const IValue& value) {
      if (!value.isObject()) {
        return false;
      }
      auto* object = value.toObject().get();
      auto found = find(object);
      if (!found) {
        return !objects.insert(object).second;
      }
      agree = agree && (!strand || found == strand);
      strand = std::move(found);
      return true; // a call may be changing what is in it, which has the same strand
    });
    if (!agree) {
      return {};
    }
    if (!strand) {
      strand = c10::make_intrusive<Strand>();
    }
    for (auto* object : objects) {
      auto counted = c10::intrusive_ptr<Object>::reclaim_copy(object);
      strands_.insert_or_assign(object, Entry{WeakObject(counted), WeakStrand(strand)});
    }
    return strand;
  }

  // Forgets what is gone. A weak reference keeps an object's address, and with it what is in the object.
  void forget() {
    std::vector<Entry> gone; // nobody waits for the lock while they are freed
    std::lock_guard<std::mutex> lock(mutex_);
    for (auto entry = strands_.begin(); entry != strands_.end();) {
      if (entry->second.object.expired() || entry->second.strand.expired()) {
        gone.push_back(std::move(entry->second));
        entry = strands_.erase(entry);
      } else {
        ++entry;
      }
    }
  }

 private:
  c10::intrusive_ptr<Strand> find(Object* object) {
    auto found = strands_.find(object);
    return found == strands_.end() ? nullptr : found->second.strand.lock();
  }

  std::mutex mutex_;
  std::unordered_map<Object*, Entry> strands_;
};

// They are never destroyed: threads may still use them when the process ends.
Strands& strands() {
  static auto* strands = new Strands;
  return *strands;
}

// join_strand(module, strand): see Strands::join. None stands for no strand.
void join_strand(Stack& stack) {
  auto given = torch::jit::pop(stack);
  auto module = torch::jit::pop(stack);
  auto joined = strands().join(module, given.isNone() ? nullptr : given.toCustomClass<Strand>());
  torch::jit::push(stack, joined ? IValue(joined) : IValue());
}

void forget_strands(Stack& /*unused*/) {
  strands().forget();
}

const auto turn_class = torch::class_<Turn>("torchremote_native", "Turn")
                            .def("comes", &Turn::comes)
                            .def("let_go", &Turn::let_go);
const auto strand_class = torch::class_<Strand>("torchremote_native", "Strand")
                              .def("turn", [](const c10::intrusive_ptr<Strand>& strand) {
                                return c10::make_intrusive<Turn>(strand);
                              });

const torch::jit::RegisterOperators registered({
    Operator(
        "torchremote_native::join_strand(Any module, Any strand) -> Any", join_strand,
        c10::AliasAnalysisKind::CONSERVATIVE),
    Operator("torchremote_native::forget_strands() -> ()", forget_strands, c10::AliasAnalysisKind::CONSERVATIVE),
    Operator(
        "torchremote_native::in_strand(Any strand, str function, t[] like, bool may_run_here, ...) -> Future(t)",
        in_strand, c10::AliasAnalysisKind::CONSERVATIVE),
});

} // namespace
