#include "devices/network/link/link_activity.hpp"

#include <poll.h>

#include <vector>

namespace viv {

void LinkActivity::expect(const void* link, int fd) {
    if (fd < 0) {
        descriptors_.erase(link);
    } else {
        descriptors_[link] = fd;
    }
}

bool LinkActivity::wait(Duration at_most) const {
    std::vector<pollfd> list;
    for (const auto& [link, fd] : descriptors_) list.push_back({fd, POLLIN, 0});
    constexpr long billion = 1'000'000'000;
    const timespec time{at_most.count() / billion, at_most.count() % billion};
    return ppoll(list.data(), list.size(), &time, nullptr) > 0;
}

}  // namespace viv
