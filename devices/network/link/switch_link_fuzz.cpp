#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "devices/fuzz_board_test.hpp"
#include "devices/network/link/link.hpp"
#include "devices/network/tcp_packet_rig_test.hpp"
#include "devices/network/test_link_test.hpp"
#include "vmm/core/temporary_folder_test.hpp"
#include "vmm/core/unix_address.hpp"

using namespace viv;

namespace {

/// Where the switch is, and a program that sends to it what it likes.
struct Outside {
    Outside() { setenv("XDG_RUNTIME_DIR", folder.path().c_str(), 1); }
    ~Outside() { close(fd); }
    [[nodiscard]] static std::string name(unsigned number) {
        return std::to_string(getpid()) + "-" + char('0' + number);
    }
    void say(const std::vector<uint8_t>& datagram) const {
        const auto to = unix_address(folder.of("vivarium/switch-fuzz/" + name(0)));
        sendto(fd, datagram.data(), datagram.size(), MSG_DONTWAIT, reinterpret_cast<const sockaddr*>(&*to),
               sizeof(*to));
    }
    TemporaryFolder folder;
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
};

/// A frame from one of a few addresses to another, or a packet of TCP, and what is undone of it.
struct Sent {
    explicit Sent(FuzzInput& input) {
        const uint8_t kind = input.byte();
        if (kind & 2) {
            const TcpPacketRig rig{.six = (kind & 4) != 0, .tagged = (kind & 8) != 0, .size = input.number(2)};
            frame = rig.packet();
            frame.resize(std::min(frame.size(), most_packet));
            header = write_offload(rig.offload(static_cast<uint16_t>(input.number(2))), frame);
        } else {
            frame = test_frame(std::max<size_t>(input.number(kind & 1 ? 2 : 1), NetworkLink::least_frame));
            if (kind & 4) input.bytes(header.data(), header.size());
        }
        for (unsigned changes = kind >> 5; changes > 0; --changes) {
            const uint8_t at = input.byte();
            frame[at % frame.size()] = input.byte();
        }
        frame[5] = kind >> 4 & 3;
        frame[11] = kind >> 6;
    }
    std::vector<uint8_t> frame;
    OffloadHeader header{};
};

std::vector<uint8_t> datagram_of(FuzzInput& input) {
    std::vector<uint8_t> datagram{'V', 'S', 2};
    const uint8_t kind = input.byte();
    const std::string name = kind & 4 ? std::string(kind >> 3, 'x') : Outside::name(kind & 3);
    datagram.push_back(static_cast<uint8_t>(name.size()));
    datagram.insert(datagram.end(), name.begin(), name.end());
    const Sent sent(input);
    datagram.insert(datagram.end(), sent.header.begin(), sent.header.end());
    datagram.insert(datagram.end(), sent.frame.begin(), sent.frame.end());
    return datagram;
}

/// A NIC takes what is for it, which is what it asked for.
void take(NetworkLink& link, const Offloads& taken, unsigned most) {
    for (; most > 0 && !link.front().empty(); --most) {
        const auto frame = link.front();
        const FrameOffload offload = link.front_offload();
        const bool whole = offload.packet == FrameOffload::Packet::whole;
        VIV_ASSERT(frame.size() >= NetworkLink::least_frame &&
                   frame.size() <= (whole ? NetworkLink::most_frame : most_packet));
        VIV_ASSERT(taken.take(offload) && can_finish(frame, offload));
        link.pop();
    }
}

}  // namespace

// The input is a row of what two machines on a switch and a program that is none of them do.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    static const Outside outside;
    FuzzInput input(data, size);
    FuzzBoard board;
    struct Machine {
        std::unique_ptr<NetworkLink> link;
        Offloads taken;
    };
    std::array<Machine, 2> machines;
    for (Machine& machine : machines) {
        auto opened = open_network_link("switch:fuzz", {board.loop, board.clock, {}});
        VIV_ASSERT(opened.has_value());
        machine.link = std::move(*opened);
    }
    for (unsigned steps = 0; steps < 100 && !input.empty(); ++steps) {
        const uint8_t kind = input.byte();
        Machine& machine = machines[kind >> 3 & 1];
        switch (kind & 7) {
            case 0:
            case 1: outside.say(datagram_of(input)); break;
            case 2: {
                const auto bytes = input.some(kind >> 3);
                outside.say({bytes.begin(), bytes.end()});
                break;
            }
            case 3: machine.link->send(Sent(input).frame); break;
            case 4: {
                const Sent sent(input);
                const auto offload = read_offload(sent.header);
                if (offload && machine.link->offloads().take(*offload) && can_finish(sent.frame, *offload))
                    machine.link->send_undone(sent.frame, *offload);
                break;
            }
            case 5:
                machine.taken = {.checksum = (kind & 0x10) != 0,
                                 .tcp4 = (kind & 0x20) != 0,
                                 .tcp6 = (kind & 0x40) != 0,
                                 .marks = (kind & 0x80) != 0};
                machine.link->take_undone(machine.taken);
                break;
            case 6:
                if (kind >> 3 == 0) machine.link->set_up(!machine.link->up());
                take(*machine.link, machine.taken, kind >> 4);
                break;
            case 7: board.loop.poll(); break;
            default: break;
        }
    }
    board.loop.poll();
    for (Machine& machine : machines) take(*machine.link, machine.taken, 1000);
    return 0;
}
