#include <vector>

#include "devices/virtio/socket/socket_rig_test.hpp"
#include "devices/virtio/socket/virtio_socket.hpp"
#include "devices/virtio/virtio_fuzz_rig_test.hpp"

using namespace viv;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    FuzzInput input(data, size);
    VirtioFuzz fuzz(input);
    auto host = std::make_unique<TestHost>();
    TestHost& programs = *host;
    std::vector<std::shared_ptr<TestProgram>> all;
    for (uint32_t port = 0; port < 3; ++port) {
        all.push_back(programs.programs[port] = std::make_shared<TestProgram>());
        all.back()->room = 100;
    }
    auto made = std::make_unique<VirtioSocket>(3, std::move(host), fuzz.board.clock);
    const VirtioSocket& socket = *made;
    fuzz.run(std::move(made), [&](uint8_t choice) {
        TestProgram& program = *all[input.byte() % all.size()];
        switch (choice & 7) {
            case 0: {
                auto caller = programs.call(input.byte() % 4);
                if (all.size() < 8) all.push_back(std::move(caller));
                break;
            }
            case 1: return program.give("some bytes of the host");
            case 2: program.room = input.byte(); return program.call_writable();
            case 3: program.closed_sending = true; return program.call_readable();
            case 4: program.closed = true; return program.call_readable();
            case 5: program.given.assign(size_t{64} * input.byte(), 'x'); return program.call_readable();
            default: {
                // A packet that is one, in a page that buffers may lie in.
                const VirtioSocketHeader header{
                    .from_cid = 3,
                    .to_cid = 2,
                    .from_port = input.byte() % 4u,
                    .to_port = choice & 8 ? 0x4000'0000 + input.byte() % 4u : input.byte() % 4u,
                    .size = input.byte(),
                    .type = 1,
                    .operation = static_cast<uint16_t>(input.byte() % 8),
                    .flags = input.byte() % 4u,
                    .buffer_size = input.number(2),
                    .forwarded = input.number(2)};
                fuzz.board.memory.write(Gpa{uint64_t{input.byte()} << 10}, std::as_bytes(std::span(&header, 1)));
                break;
            }
        }
        VIV_ASSERT(socket.connections() <= VirtioSocket::most_connections);
    });
    return 0;
}
