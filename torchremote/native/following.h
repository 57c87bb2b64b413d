// How a link with a route sends a call: see following.cpp.
#pragma once

#include <memory>
#include <vector>

#include <ATen/core/function_schema.h>
#include <ATen/core/ivalue.h>
#include <ATen/core/qualified_name.h>

namespace torchremote {

// What a link calls.
struct Target {
  c10::QualifiedName endpoint;
  c10::FunctionSchema schema; // has the type of the result
};

// Sends a call by a route, and returns the Future of its answer.
c10::intrusive_ptr<c10::ivalue::Future> send_by_route(
    const c10::IValue& route, std::shared_ptr<const Target> target, std::vector<c10::IValue> arguments, float timeout);

} // namespace torchremote
