// The threads that run strands: see threads.cpp.
#pragma once

#include <functional>

namespace torchremote {

// Has a thread run a function, which raises nothing. It does not wait until slow functions of others end.
void run_in_thread(std::function<void()> function);

// Returns how many forks led to this process. It has none of its parents' threads.
int forks();

} // namespace torchremote
