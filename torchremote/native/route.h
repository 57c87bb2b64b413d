// Where the module of a link is, for calls that follow it: see following.cpp.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/ivalue.h>
#include <ATen/ops/empty.h>
#include <torch/custom_class.h>

namespace torchremote {

// As in jit/runtime/turns.py.
constexpr int kFlagBits = 4;
constexpr int kStreamBits = 28;
constexpr int64_t kTickets = int64_t{1} << 31;

// A link has it from when it is connected. It changes when the module is found elsewhere.
//
// The calls of a link with a stream run in the order in which they were made, so those that were refused have to be
// sent again in this order, and before new ones. So they have numbers. When the module is found, the route holds all
// calls until those that went to the old place have ended or are held, too. Then it lets go of them in their order.
class Route : public torch::CustomClassHolder {
 public:
  // Of a stub: the parts of link/route.py's Address.
  using Address = std::tuple<int64_t, std::string, std::string, std::string, std::string, double>;

  Route(
      Address address, std::vector<c10::Device> devices, int64_t handle, std::string device, int64_t stream,
      std::optional<at::Generator> tickets)
      : address_(std::move(address)), devices_(std::move(devices)), handle_(handle), device_(std::move(device)),
        stream_(stream), tickets_(std::move(tickets)), is_plain_(!tickets_) {}

  const Address& address() const {
    return address_;
  }

  const std::string& worker() const {
    return std::get<3>(address_);
  }

  // The accelerators on which arguments and results may be.
  const std::vector<c10::Device>& devices() const {
    return devices_;
  }

  // Returns handle, device and stream as they are by now.
  std::tuple<int64_t, std::string, int64_t> reached() {
    std::lock_guard<std::mutex> lock(mutex_);
    return {handle_, device_, stream_};
  }

  // Has calls go to another module from now on.
  void exchange(int64_t handle, std::string device, int64_t stream) {
    std::lock_guard<std::mutex> lock(mutex_);
    handle_ = handle;
    device_ = std::move(device);
    stream_ = stream;
    tickets_.reset();
    if (stream != 0) {
      tickets_ = at::make_generator<at::CPUGeneratorImpl>(static_cast<uint64_t>(stream));
    }
    is_exchanged_ = true;
    is_plain_.store(false, std::memory_order_release);
    holds_ = holds_ || (stream != 0 && on_the_way_ > 0);
  }

  // Whether the module is where the link knows it, and calls have no order.
  bool is_plain() const {
    return is_plain_.load(std::memory_order_acquire);
  }

  // Returns the number of a new call.
  int64_t number() {
    std::lock_guard<std::mutex> lock(mutex_);
    return next_number_++;
  }

  // Keeps a call, if the route holds calls by now: `let_go` is for when it may go. `wait` comes before. Returns whether
  // it is kept.
  template <class Wait> bool hold(int64_t number, Wait wait, std::function<void()> let_go) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (holds_) {
      wait();
      held_.emplace(number, std::move(let_go));
    }
    return holds_;
  }

  // Has a message go to the module. Of the arguments, the first is the handle, and the last one has the flags.
  // `is_new`: it has the ticket of its link. Returns in which round of sending that is; 0 if it should be held.
  int64_t lead(std::vector<c10::IValue>& arguments, bool is_new, bool may_wait) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (holds_ && may_wait) {
      return 0;
    }
    if (is_exchanged_ || !is_new) {
      arguments.front() = handle_;
      arguments.back() = with_ticket(arguments.back().toInt());
    }
    ++on_the_way_;
    return round_;
  }

  // Notes that a message was not refused, or that its call is held.
  void arrive(int64_t round) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      if (round != round_ || --on_the_way_ > 0 || !holds_) {
        return;
      }
    }
    let_go();
  }

  // Lets go of what is held, also if something is on the way still.
  void let_go() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      if (!holds_ || std::exchange(lets_go_, true)) {
        return;
      }
      ++round_;
      on_the_way_ = 0;
    }
    for (;;) {
      std::function<void()> next;
      {
        std::lock_guard<std::mutex> lock(mutex_);
        if (held_.empty()) {
          holds_ = lets_go_ = false;
          return;
        }
        next = std::move(held_.begin()->second);
        held_.erase(held_.begin());
      }
      next();
    }
  }

  // Returns the flags of a call that is made here and now.
  int64_t flags(int64_t linked) {
    std::lock_guard<std::mutex> lock(mutex_);
    return is_exchanged_ ? with_ticket(linked) : linked;
  }

 private:
  int64_t with_ticket(int64_t flags) const {
    flags &= (1 << kFlagBits) - 1;
    if (!tickets_) {
      return flags;
    }
    auto ticket = at::empty({1}, at::kLong).random_(kTickets, tickets_).item<int64_t>();
    return flags | stream_ << kFlagBits | ticket << (kFlagBits + kStreamBits);
  }

  const Address address_;
  const std::vector<c10::Device> devices_;
  std::mutex mutex_;
  int64_t handle_;
  std::string device_;
  int64_t stream_;
  std::optional<at::Generator> tickets_; // of the stream
  std::atomic<bool> is_plain_;
  bool is_exchanged_ = false;
  int64_t next_number_ = 0;
  int64_t round_ = 1;      // counts how often what was held was let go
  int64_t on_the_way_ = 0; // the messages of this round of which nobody knows yet whether they were refused
  bool holds_ = false, lets_go_ = false;
  std::multimap<int64_t, std::function<void()>> held_;
};

} // namespace torchremote
