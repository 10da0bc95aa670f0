// The tap link: an interface of the host, which a bridge or routes of the host lead on from.

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "devices/network/link/links.hpp"
#include "devices/network/link/queued_link.hpp"

namespace viv {
namespace {

std::string advice(const std::string& name, int error) {
    if (error == EPERM || error == EACCES)
        return fmt::format(" (once, as root: ip tuntap add dev {0} mode tap user $USER; ip link set {0} up)", name);
    if (error == EBUSY) return " (another program has it)";
    if (error == ENOENT || error == ENODEV) return " (this host's kernel has no tun module)";
    return {};
}

class TapLink final : public QueuedLink {
  public:
    using QueuedLink::QueuedLink;
    ~TapLink() override {
        watch_.reset();
        if (fd_ >= 0) close(fd_);
    }

    Result<void> open(const std::string& name, const std::string& bridge) {
        if (name.empty() || name.size() >= IFNAMSIZ || bridge.size() >= IFNAMSIZ)
            return fail_usage(fmt::format("network tap: '{}' is not the name of an interface (try tap:tap0)", name));
        fd_ = ::open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
        if (fd_ < 0) return refuse(name, "cannot open /dev/net/tun for tap", errno);
        ifreq request{};
        std::memcpy(request.ifr_name, name.c_str(), name.size());
        request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
        if (ioctl(fd_, TUNSETIFF, &request) != 0) return refuse(name, "cannot use tap", errno);
        // The one that was here before may have left them otherwise.
        constexpr int header = offload_header_size;
        if (ioctl(fd_, TUNSETVNETHDRSZ, &header) != 0) return refuse(name, "cannot use tap", errno);
        taken_changed();
        const int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        const auto done = set_up_interface(control, name, bridge);
        close(control);
        TRY(done);
        watch_ = loop().watch(fd_, EventLoop::Ready::read, [this] { receive(); });
        expect_at(fd_);
        description_ = fmt::format("tap {}{}{}", name, bridge.empty() ? "" : " on bridge ", bridge);
        return {};
    }
    [[nodiscard]] std::string description() const override { return description_; }

  private:
    static std::unexpected<Error> refuse(const std::string& name, const char* what, int error) {
        return fail(fmt::format("network tap: {} '{}': {}{}", what, name, std::strerror(error), advice(name, error)));
    }

    /// Who may, sets the interface up and makes it a port of the bridge; who may not, finds it so.
    static Result<void> set_up_interface(int control, const std::string& name, const std::string& bridge) {
        ifreq request{};
        std::memcpy(request.ifr_name, name.c_str(), name.size());
        if (ioctl(control, SIOCGIFFLAGS, &request) == 0 && !(request.ifr_flags & IFF_UP)) {
            request.ifr_flags = static_cast<short>(request.ifr_flags | IFF_UP);
            if (ioctl(control, SIOCSIFFLAGS, &request) != 0) return refuse(name, "cannot set up tap", errno);
        }
        if (bridge.empty()) return {};
        if (access(fmt::format("/sys/class/net/{}/brif/{}", bridge, name).c_str(), F_OK) == 0) return {};
        ifreq port{};
        std::memcpy(port.ifr_name, name.c_str(), name.size());
        if (ioctl(control, SIOCGIFINDEX, &port) != 0) return refuse(name, "cannot find tap", errno);
        request = {};
        std::memcpy(request.ifr_name, bridge.c_str(), bridge.size());
        request.ifr_ifindex = port.ifr_ifindex;
        if (ioctl(control, SIOCBRADDIF, &request) != 0) {
            const int error = errno;
            return fail(
                fmt::format("network tap: cannot make '{0}' a port of the bridge '{1}': {2} (once, as root: ip link "
                            "set {0} master {1})",
                            name, bridge, std::strerror(error)));
        }
        return {};
    }

    // What the host has no room for is lost, as on a wire.
    void transmit(std::span<const uint8_t> frame, const FrameOffload& offload) override {
        OffloadHeader header = write_offload(offload, frame);
        const std::array<iovec, 2> parts{iovec{header.data(), header.size()},
                                         iovec{const_cast<uint8_t*>(frame.data()), frame.size()}};
        static_cast<void>(!::writev(fd_, parts.data(), parts.size()));
    }
    [[nodiscard]] Offloads can_take_undone() const override {
        return {.checksum = true, .tcp4 = true, .tcp6 = true, .marks = true};
    }
    /// The kernel finishes what the NIC does not take. Where it cannot be told, it finishes all.
    void taken_changed() override {
        unsigned long flags = 0;
        if (taken().checksum) flags |= TUN_F_CSUM;
        if (taken().tcp4) flags |= TUN_F_TSO4;
        if (taken().tcp6) flags |= TUN_F_TSO6;
        if (taken().marks) flags |= TUN_F_TSO_ECN;
        static_cast<void>(ioctl(fd_, TUNSETOFFLOAD, flags));
    }

    void receive() {
        constexpr unsigned at_once = 64;
        for (unsigned i = 0; i < at_once; ++i) {
            if (full()) return watch_->enable(false);
            const ssize_t size = ::read(fd_, buffer_.data(), buffer_.size());
            if (size < static_cast<ssize_t>(offload_header_size)) return;
            const auto bytes = std::span<const uint8_t>(buffer_).first(static_cast<size_t>(size));
            const auto offload = read_offload(bytes.first<offload_header_size>());
            if (offload) deliver(bytes.subspan(offload_header_size), *offload);
        }
    }
    void room_again() override { watch_->enable(true); }

    int fd_ = -1;
    std::vector<uint8_t> buffer_ = std::vector<uint8_t>(offload_header_size + most_packet);
    std::unique_ptr<EventLoop::Watch> watch_;
    std::string description_;
};

}  // namespace

Result<std::unique_ptr<QueuedLink>> open_tap_link(const LinkOptions& options, const LinkSetup& setup) {
    TRY(options.only({"bridge"}));
    auto link = std::make_unique<TapLink>(setup);
    TRY(link->open(options.name, options.value("bridge")));
    return link;
}

}  // namespace viv
