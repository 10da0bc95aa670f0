#include "vmm/core/doorbells.hpp"

#include <sys/eventfd.h>
#include <unistd.h>

namespace viv {

HostEvent::HostEvent() : fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

HostEvent::~HostEvent() {
    if (fd_ >= 0) close(fd_);
}

bool HostEvent::take() {
    eventfd_t count = 0;
    return eventfd_read(fd_, &count) == 0 && count > 0;
}

}  // namespace viv
