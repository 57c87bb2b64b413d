// The threads that run strands: see threads.cpp.
#pragma once

#include <functional>

namespace torchremote {

// Has a thread run a function, which raises nothing. It does not wait until slow functions of others end.
void run_in_thread(std::function<void()> function);

// Returns how often this process, or one from which it was forked, was forked. A child has none of the threads.
int forks();

} // namespace torchremote
