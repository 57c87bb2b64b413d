// Counts the calls of a hosted module, and how long they take. This is the owner's part: see jit/runtime/counting.py.
//
// A call that has begun is an object. Whatever becomes of the call, TorchScript lets go of the object at its end. If
// nobody said until then that the call has ended, it failed.
#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cmath>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <unordered_map>
#include <utility>

#include <torch/csrc/jit/runtime/custom_operator.h>
#include <torch/custom_class.h>

namespace {

using c10::IValue;
using torch::jit::Operator;
using torch::jit::Stack;
using Clock = std::chrono::steady_clock;

// As in jit/runtime/counting.py.
constexpr int kPerOctave = 4;
constexpr int kBuckets = 128;

// The calls of one method: in each bucket those that took so long, and at the end those that failed.
using MethodCounts = std::array<std::atomic<int64_t>, kBuckets + 1>;

class Counts : public torch::CustomClassHolder {
 public:
  // Returns the counts of a method, which stay where they are.
  MethodCounts& of(const std::string& method) {
    {
      std::shared_lock<std::shared_mutex> lock(mutex_);
      auto found = methods_.find(method);
      if (found != methods_.end()) {
        return found->second;
      }
    }
    std::lock_guard<std::shared_mutex> lock(mutex_);
    return methods_[method];
  }

  std::vector<int64_t> read(const std::string& method) {
    auto& counts = of(method);
    return {counts.begin(), counts.end()};
  }

 private:
  std::shared_mutex mutex_;
  std::unordered_map<std::string, MethodCounts> methods_;
};

class Call : public torch::CustomClassHolder {
 public:
  Call(c10::intrusive_ptr<Counts> counts, const std::string& method)
      : counts_(std::move(counts)), method_(counts_->of(method)), began_(Clock::now()) {}

  ~Call() override {
    ++method_[bucket_];
  }

  void end() {
    std::chrono::duration<double, std::micro> took = Clock::now() - began_;
    bucket_ = std::min(static_cast<int>(std::log2(took.count() + 1) * kPerOctave), kBuckets - 1);
  }

 private:
  c10::intrusive_ptr<Counts> counts_;
  MethodCounts& method_;
  Clock::time_point began_;
  int bucket_ = kBuckets; // it failed
};

// begin_call(counts, method): returns the object of a call that begins.
void begin_call(Stack& stack) {
  auto method = torch::jit::pop(stack);
  auto counts = torch::jit::pop(stack).toCustomClass<Counts>();
  torch::jit::push(stack, IValue(c10::make_intrusive<Call>(std::move(counts), method.toStringRef())));
}

// end_call(call): the call has succeeded.
void end_call(Stack& stack) {
  torch::jit::pop(stack).toCustomClass<Call>()->end();
}

const auto counts_class =
    torch::class_<Counts>("torchremote_native", "Counts").def(torch::init<>()).def("read", &Counts::read);
const auto call_class = torch::class_<Call>("torchremote_native", "Call");

const torch::jit::RegisterOperators registered({
    Operator(
        "torchremote_native::begin_call(Any counts, str method) -> Any", begin_call,
        c10::AliasAnalysisKind::CONSERVATIVE),
    Operator("torchremote_native::end_call(Any call) -> ()", end_call, c10::AliasAnalysisKind::CONSERVATIVE),
});

} // namespace
