// Calls that follow their module to where it is served by now, and lost ones that are sent again.
//
// This is the caller's part, for calls from TorchScript, which cannot catch an error. The link of a module with a name
// has a Route. A call that fails is kept here, and a thread of Python decides what becomes of it, which knows torch's
// messages and finds modules: see caller/finding/failed_calls.py. At its deadline, the call ends with its last error,
// whatever Python does. Calls that succeed need none of this.
#include "following.h"
#include "route.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <utility>

#include <ATen/ThreadLocalState.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <c10/util/ScopeExit.h>
#include <torch/csrc/distributed/autograd/context/container.h>
#include <torch/csrc/distributed/autograd/utils.h>
#include <torch/csrc/distributed/rpc/message.h>
#include <torch/csrc/distributed/rpc/rpc_agent.h>
#include <torch/csrc/distributed/rpc/script_call.h>
#include <torch/csrc/distributed/rpc/torchscript_functions.h>
#include <torch/csrc/distributed/rpc/utils.h>
#include <torch/csrc/jit/runtime/custom_operator.h>
#include <torch/csrc/profiler/api.h>
#include <torch/custom_class.h>

namespace {

using c10::IValue;
using c10::ivalue::Future;
using torch::distributed::autograd::DistAutogradContainer;
using torch::distributed::rpc::Message;
using torch::distributed::rpc::RpcAgent;
using torch::distributed::rpc::ScriptCall;
using torch::jit::Operator;
using torch::jit::Stack;
using torchremote::Route;
using torchremote::Target;

using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;

// The beginning of an endpoint's name, and what a traceback has of an endpoint that ran: see link/failures.py, Note
// [Refused calls].
constexpr auto kEndpoint = "_remote_";
constexpr auto kInEndpoint = "def _remote_";

// For how long calls are held at most: a refusal needs less, and a call that runs may need another one.
constexpr auto kPatience = std::chrono::seconds(1);
constexpr auto kForEver = std::chrono::hours(24 * 365 * 100);

class RoutedCall;
using CallPtr = c10::intrusive_ptr<RoutedCall>;

// The calls that failed. Threads wait in it while the process ends, so it is never let go.
struct Failed {
  std::mutex mutex;
  std::condition_variable any_undecided, any_waiting, python_rests;
  std::deque<CallPtr> undecided;                     // for Python
  std::multimap<Clock::time_point, CallPtr> waiting; // by when their pause ends, or their deadline is
  bool has_thread = false;                           // which waits with them
  bool is_over = false;                              // the process ends, and nobody goes on
  bool does_python_rest = false;
};

std::atomic<Failed*> failed_calls{new Failed};

// Whether this thread sends a call for those who made it, and has other calls to send.
thread_local bool sends_for_others = false;

// Calls a function in a thread of its own.
void apart(std::function<void()> function) {
  auto run = [function = std::move(function)] {
    try {
      function();
    } catch (const std::exception& error) { // of a user's callback; torch logs it, too, and goes on
      LOG(ERROR) << "torchremote: a callback of a call raised: " << error.what();
    }
  };
  try {
    std::thread(run).detach();
  } catch (const std::system_error&) { // no more threads can be started
    run();
  }
}

std::string message_of(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const c10::Error& found) {
    return found.what_without_backtrace();
  } catch (const std::exception& found) {
    return found.what();
  }
}

// A call by a route.
class RoutedCall : public torch::CustomClassHolder {
 public:
  RoutedCall(
      c10::intrusive_ptr<Route> route, std::shared_ptr<const Target> target, std::vector<IValue> arguments,
      float timeout)
      : route_(std::move(route)), target_(std::move(target)), arguments_(std::move(arguments)), timeout_(timeout),
        result_(c10::make_intrusive<Future>(target_->schema.returns()[0].type(), route_->devices())),
        is_recorded_(at::GradMode::is_enabled() && DistAutogradContainer::currentContextId() != -1),
        began_(Clock::now()) {}

  // Sends the call for the first time. Returns the Future of its result.
  c10::intrusive_ptr<Future> begin() {
    handle_ = arguments_.front().toInt();
    if (!route_->is_plain()) {
      number_ = route_->number();
      while (!lead(/*is_new=*/true)) {
        if (hold()) {
          return result_;
        }
      }
    }
    send(timeout_);
    return result_;
  }

  // -- what Python asks

  Route::Address address() const {
    return route_->address();
  }

  // Where calls of its link go by now.
  int64_t reached() const {
    return std::get<0>(route_->reached());
  }

  std::string method() const {
    return target_->endpoint.name().substr(std::string(kEndpoint).size());
  }

  std::string error() const {
    return message_of(error_);
  }

  // Where the call went.
  int64_t handle() const {
    return handle_;
  }

  // How many pauses there were.
  int64_t pauses() const {
    return pauses_;
  }

  // Whether a pause is over since the call failed.
  bool is_rested() const {
    return is_rested_;
  }

  // Whether the call is part of a context of distributed autograd, with gradients. Another message would be one too
  // many there: torch would wait for the gradients of both.
  bool is_recorded() const {
    return is_recorded_;
  }

  // -- what Python decides

  // Has all calls of its link go to another module from now on.
  void exchange(int64_t handle, std::string device, int64_t stream) {
    route_->exchange(handle, std::move(device), stream);
  }

  // This and the following do nothing if the deadline was first. It ends the call with its last error.
  void end() {
    if (take()) {
      end_apart(error_);
    }
  }

  void end_with(std::string message) {
    if (take()) {
      end_apart(std::make_exception_ptr(std::runtime_error(message)));
    }
  }

  void send_later(double seconds) {
    if (take()) {
      ++pauses_;
      arrive();
      if (!wait_until(Clock::now() + std::chrono::duration_cast<Clock::duration>(Seconds(seconds)))) {
        end(); // the pause would have no end
      }
    }
  }

  void send_again() {
    if (take()) {
      auto round = std::exchange(round_, 0); // from when the call is held, another thread may send it
      bool is_kept = hold();
      if (round != 0) {
        route_->arrive(round);
      }
      if (!is_kept) {
        go();
      }
    }
  }

  // Goes on when the waiting is over. Without RPC there is nobody to call.
  void go_on() {
    if (Clock::now() >= deadline_ || !RpcAgent::isCurrentRpcAgentSet()) {
      return end_apart(error_);
    }
    if (is_held_) {
      wait_until(deadline_);
      return may_go_ ? go_if_held() : route_->let_go(); // it may have been let go of while it did not wait
    }
    is_rested_ = true;
    ask_python();
  }

 private:
  friend void wait_with(Failed* failed);

  // Ends the call in a thread of its own. A callback of its Future may wait for another call that failed, for which the
  // threads that decide and wait are needed.
  void end_apart(std::exception_ptr error) {
    arrive();
    apart([result = result_, error = std::move(error)] { result->setError(error); });
  }

  // Has the route keep the call, if it holds calls by now, until it lets go of it, or until the deadline. Returns
  // whether it does. A call that torch records has to be sent where it was made.
  bool hold() {
    auto self = CallPtr::reclaim_copy(this);
    auto wait = [this] {
      set_deadline();
      if (!error_) {
        auto why = "RPC ran for more than set timeout: the call waited for others of its stub, which were refused";
        error_ = std::make_exception_ptr(std::runtime_error(why));
      }
      is_held_ = true;
      may_go_ = false;
      wait_until(Clock::now() + kPatience);
    };
    return !is_recorded_ && route_->hold(number_, wait, [self] {
      self->may_go_ = true;
      self->go_if_held();
    });
  }

  void go_if_held() {
    if (take()) {
      is_held_ = false;
      go();
    }
  }

  // Sends the call to where its module is by now.
  void go() {
    auto context = DistAutogradContainer::currentContextId(); // of another call
    DistAutogradContainer::forceCurrentContextId(-1);
    auto sent_before = std::exchange(sends_for_others, true);
    auto restore = c10::make_scope_exit([=] {
      DistAutogradContainer::forceCurrentContextId(context);
      sends_for_others = sent_before;
    });
    try {
      for (auto device : route_->devices()) { // nobody knows here in which streams arguments are computed
        c10::impl::VirtualGuardImpl(device.type()).synchronizeDevice(device.index());
      }
      lead(/*is_new=*/false);
    } catch (const std::exception&) {
      return end_apart(std::current_exception());
    }
    Seconds left = deadline_ - Clock::now();
    send(is_limited_ ? std::max(static_cast<float>(left.count()), 0.001F) : 0);
  }

  // Returns whether the call may be sent now.
  bool lead(bool is_new) {
    round_ = route_->lead(arguments_, is_new, /*may_wait=*/is_new && !is_recorded_);
    handle_ = arguments_.front().toInt();
    return round_ != 0;
  }

  // Says that the last message was not refused, or that the call is held.
  void arrive() {
    if (auto round = std::exchange(round_, 0)) {
      route_->arrive(round);
    }
  }

  // Does what torch's rpcTorchscript does, which has a Future of its own: that would cost as much as all else here.
  // Ranges of the profiler are left to it.
  void send(float timeout) {
    bool is_profiled = torch::profiler::impl::profilerEnabled();
    auto stack = arguments_;
    try {
      auto agent = RpcAgent::getCurrentRpcAgent();
      auto answer = is_profiled
          ? torch::distributed::rpc::rpcTorchscript(
                route_->worker(), target_->endpoint, target_->schema, std::move(stack), timeout)
          : torch::distributed::autograd::sendMessageWithAutograd(
                *agent, agent->getWorkerInfo(route_->worker()),
                ScriptCall(target_->endpoint, std::move(stack)).toMessage(), /*forceGradRecording=*/true, timeout);
      auto self = CallPtr::reclaim_copy(this);
      answer->addCallback(at::wrapPropagateTLSState([self, is_profiled](Future& answer) {
        if (sends_for_others && !answer.hasError()) { // it was there already, and callbacks would run in this thread
          auto kept = c10::intrusive_ptr<Future>::reclaim_copy(&answer);
          return apart([self, is_profiled, kept] { // as a callback: in streams that have waited for the answer
            kept->addCallback([self, is_profiled](Future& answer) { self->finish(answer, is_profiled); });
          });
        }
        self->finish(answer, is_profiled);
      }));
    } catch (const std::exception&) { // nothing was sent: there is no such worker, say
      fail(std::current_exception());
    }
  }

  // Ends the call with its answer, unless that is an error with which it goes on.
  void finish(Future& answer, bool is_profiled) {
    if (answer.hasError()) {
      return fail(answer.exception_ptr());
    }
    arrive();
    try {
      const IValue& value = answer.constValue();
      result_->markCompleted(
          is_profiled ? value : torch::distributed::rpc::deserializeRespToIValue(*value.toCustomClass<Message>()),
          answer.storages());
    } catch (const std::exception&) { // it cannot be read, or is on a device that the Future does not have
      result_->setErrorIfNeeded(std::current_exception());
    }
  }

  // Keeps the call for Python, unless it is clear that nothing can be done.
  void fail(std::exception_ptr error) {
    error_ = std::move(error);
    is_rested_ = false;
    set_deadline();
    bool has_run = message_of(error_).find(kInEndpoint) != std::string::npos;
    if (has_run || Clock::now() >= deadline_ || !RpcAgent::isCurrentRpcAgentSet()) {
      if (sends_for_others) {
        return end_apart(error_);
      }
      arrive();
      return result_->setError(error_);
    }
    ask_python();
  }

  void set_deadline() {
    if (deadline_ == Clock::time_point()) {
      Seconds limit(timeout_);
      if (timeout_ < 0 && RpcAgent::isCurrentRpcAgentSet()) { // RPC's own
        limit = RpcAgent::getCurrentRpcAgent()->getRpcTimeout();
      }
      is_limited_ = limit.count() > 0;
      deadline_ = began_ + (is_limited_ ? std::chrono::duration_cast<Clock::duration>(limit) : kForEver);
    }
  }

  void ask_python() {
    wait_until(deadline_);
    auto* failed = failed_calls.load();
    {
      std::lock_guard<std::mutex> lock(failed->mutex);
      failed->undecided.push_back(CallPtr::reclaim_copy(this));
    }
    failed->any_undecided.notify_one();
  }

  // Waits until then, or until the deadline, or until somebody takes the call. Returns false if it waits for the last
  // alone, because no thread can be started.
  bool wait_until(Clock::time_point then);

  // Ends the waiting. Returns whether it lasted until now: whoever ends it decides what becomes of the call.
  bool take();

  const c10::intrusive_ptr<Route> route_;
  const std::shared_ptr<const Target> target_;
  std::vector<IValue> arguments_;
  const float timeout_;
  const c10::intrusive_ptr<Future> result_;
  const bool is_recorded_;
  const Clock::time_point began_;
  int64_t handle_ = 0;
  int64_t number_ = 0; // among the calls of its link, and in which round its last message was sent: see Route
  int64_t round_ = 0;
  // From the first failure on:
  std::exception_ptr error_; // the last one
  Clock::time_point deadline_;
  bool is_limited_ = false; // otherwise the deadline is far away
  int64_t pauses_ = 0;
  bool is_rested_ = false;
  bool is_held_ = false;
  std::atomic<bool> may_go_{false};
  std::optional<std::multimap<Clock::time_point, CallPtr>::iterator> place_; // in Failed::waiting
};

// Has calls go on whose waiting is over.
void wait_with(Failed* failed) {
  std::unique_lock<std::mutex> lock(failed->mutex);
  for (;;) {
    auto next = failed->waiting.begin();
    if (failed->is_over || next == failed->waiting.end()) {
      failed->any_waiting.wait(lock);
    } else if (next->first > Clock::now()) {
      auto until = next->first; // the call may be taken meanwhile
      failed->any_waiting.wait_until(lock, until);
    } else {
      auto call = std::move(next->second);
      failed->waiting.erase(next);
      call->place_.reset();
      lock.unlock();
      call->go_on();
      call.reset();
      lock.lock();
    }
  }
}

bool RoutedCall::wait_until(Clock::time_point then) {
  auto* failed = failed_calls.load();
  std::lock_guard<std::mutex> lock(failed->mutex);
  place_ = failed->waiting.emplace(std::min(then, deadline_), CallPtr::reclaim_copy(this));
  if (!failed->has_thread) {
    try {
      std::thread(wait_with, failed).detach();
      failed->has_thread = true;
    } catch (const std::system_error&) { // the next call that waits tries again
    }
  }
  failed->any_waiting.notify_one();
  return failed->has_thread;
}

bool RoutedCall::take() {
  auto* failed = failed_calls.load();
  CallPtr self; // is let go after the lock
  std::lock_guard<std::mutex> lock(failed->mutex);
  if (!place_) {
    return false;
  }
  self = std::move((*place_)->second);
  failed->waiting.erase(*std::exchange(place_, std::nullopt));
  return true;
}

// next_failed(): waits for a call that failed, and returns it.
void next_failed(Stack& stack) {
  auto* failed = failed_calls.load();
  std::unique_lock<std::mutex> lock(failed->mutex);
  failed->any_undecided.wait(lock, [failed] { return failed->is_over || !failed->undecided.empty(); });
  while (failed->is_over) {
    failed->does_python_rest = true;
    failed->python_rests.notify_all();
    failed->any_undecided.wait(lock);
  }
  auto call = std::move(failed->undecided.front());
  failed->undecided.pop_front();
  lock.unlock();
  torch::jit::push(stack, IValue(std::move(call)));
}

// rest_failed(): nobody goes on from now on. While Python ends, a thread that comes back from here would end the
// process with an error. Waits for the thread that is in next_failed, a second at most.
void rest_failed(Stack& stack) {
  auto* failed = failed_calls.load();
  std::unique_lock<std::mutex> lock(failed->mutex);
  failed->is_over = true;
  failed->any_undecided.notify_all();
  failed->any_waiting.notify_all();
  failed->python_rests.wait_for(lock, std::chrono::seconds(1), [failed] { return failed->does_python_rest; });
}

// forget_failed(): is for a process that was just forked. The calls, and the threads, are the parent's.
void forget_failed(Stack& stack) {
  failed_calls.store(new Failed);
}

const auto call_class = torch::class_<RoutedCall>("torchremote_native", "RoutedCall")
                            .def("address", &RoutedCall::address)
                            .def("reached", &RoutedCall::reached)
                            .def("exchange", &RoutedCall::exchange)
                            .def("method", &RoutedCall::method)
                            .def("error", &RoutedCall::error)
                            .def("handle", &RoutedCall::handle)
                            .def("pauses", &RoutedCall::pauses)
                            .def("is_rested", &RoutedCall::is_rested)
                            .def("is_recorded", &RoutedCall::is_recorded)
                            .def("end", &RoutedCall::end)
                            .def("end_with", &RoutedCall::end_with)
                            .def("send_again", &RoutedCall::send_again)
                            .def("send_later", &RoutedCall::send_later);

const torch::jit::RegisterOperators registered({
    Operator("torchremote_native::next_failed() -> Any", next_failed, c10::AliasAnalysisKind::CONSERVATIVE),
    Operator("torchremote_native::rest_failed() -> ()", rest_failed, c10::AliasAnalysisKind::CONSERVATIVE),
    Operator("torchremote_native::forget_failed() -> ()", forget_failed, c10::AliasAnalysisKind::CONSERVATIVE),
});

} // namespace

c10::intrusive_ptr<Future> torchremote::send_by_route(
    const IValue& route, std::shared_ptr<const Target> target, std::vector<IValue> arguments, float timeout) {
  auto by = route.toCustomClass<Route>();
  return c10::make_intrusive<RoutedCall>(by, std::move(target), std::move(arguments), timeout)->begin();
}
