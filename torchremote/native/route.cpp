// The operators with which a link makes its Route, and reads it.
#include "route.h"

#include <torch/csrc/jit/runtime/custom_operator.h>

namespace {

using c10::IValue;
using torch::jit::Operator;
using torch::jit::Stack;
using torchremote::Route;

// new_route(address, handle, device, devices, stream, tickets, follows): returns a Route. Returns None if calls shall
// not follow the module, or cannot: one without a name could not be found again.
void new_route(Stack& stack) {
  auto given = torch::jit::last(stack, 7);
  auto address = given[0].to<Route::Address>();
  std::vector<c10::Device> devices;
  for (const IValue& device : given[3].toListRef()) {
    if (!device.toDevice().is_cpu()) {
      devices.push_back(device.toDevice());
    }
  }
  IValue route;
  if (given[6].toBool() && !std::get<4>(address).empty()) {
    route = c10::make_intrusive<Route>(
        std::move(address), std::move(devices), given[1].toInt(), given[2].toStringRef(), given[4].toInt(),
        given[5].to<std::optional<at::Generator>>());
  }
  torch::jit::drop(stack, 7);
  torch::jit::push(stack, std::move(route));
}

// reached(route, handle, device, stream): returns the last three as they are by now.
void reached(Stack& stack) {
  auto given = torch::jit::last(stack, 4);
  if (given[0].isNone()) {
    stack.erase(stack.end() - 4);
    return;
  }
  auto [handle, device, stream] = given[0].toCustomClass<Route>()->reached();
  torch::jit::drop(stack, 4);
  torch::jit::push(stack, handle, std::move(device), stream);
}

// flags_by(route, flags): returns the flags, of a link, with the ticket that a call needs by now.
void flags_by(Stack& stack) {
  auto flags = torch::jit::pop(stack).toInt();
  auto route = torch::jit::pop(stack);
  torch::jit::push(stack, route.isNone() ? flags : route.toCustomClass<Route>()->flags(flags));
}

const auto route_class = torch::class_<Route>("torchremote_native", "Route");

constexpr auto effects = c10::AliasAnalysisKind::CONSERVATIVE;

const torch::jit::RegisterOperators registered({
    Operator(
        "torchremote_native::new_route(Any address, int handle, str device, Device[] devices, int stream, "
        "Generator? tickets, bool follows) -> Any",
        new_route, effects),
    Operator(
        "torchremote_native::reached(Any route, int handle, str device, int stream) -> (int, str, int)", reached,
        effects),
    Operator("torchremote_native::flags_by(Any route, int flags) -> int", flags_by, effects),
});

} // namespace
