#pragma once

#include <mutex>

namespace viv {

/// Takes the machine lock. A thread that slept on a mutex would, once woken, find it taken again by a guest that polls
/// a port: std::mutex is not fair, and such a guest lets go of the lock for a few hundred nanoseconds at a time. A
/// timer of the machine could be late by seconds. So this waits awake, in short sleeps when it takes long.
std::unique_lock<std::mutex> hold_machine(std::mutex& lock);

}  // namespace viv
