/** A button whose change is asked about before it is made. */

import { Button, Group, Modal } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { useMutation } from "@tanstack/react-query";
import type { ReactNode } from "react";
import { Failure } from "./widgets";

interface ConfirmProps {
  label: string;
  question: string;
  /** What happens; shown below the question. */
  children: ReactNode;
  run: () => Promise<unknown>;
}

export function Confirm({ label, question, children, run }: ConfirmProps) {
  const [asking, { open, close }] = useDisclosure(false);
  const running = useMutation({ mutationFn: run, onSuccess: close });
  return (
    <>
      <Button size="compact-sm" variant="default" onClick={open}>
        {label}
      </Button>
      <Modal
        opened={asking}
        onClose={close}
        title={question}
        closeButtonProps={{ "aria-label": "Close" }}
        attributes={{ header: { role: "presentation" } }}
      >
        {children}
        {running.error ? <Failure error={running.error} /> : null}
        <Group justify="flex-end" mt="md">
          <Button variant="default" onClick={close}>
            No
          </Button>
          <Button color="red" loading={running.isPending} onClick={() => { running.mutate(); }}>
            {label}
          </Button>
        </Group>
      </Modal>
    </>
  );
}
