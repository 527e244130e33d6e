import {
  ActionIcon,
  Alert,
  Anchor,
  AppShell,
  Burger,
  Center,
  Divider,
  Group,
  Loader,
  NavLink,
  ScrollArea,
  Select,
  Text,
  Title,
  Tooltip,
  useComputedColorScheme,
  useMantineColorScheme,
} from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { useQueryClient } from "@tanstack/react-query";
import { LogOut, Moon, Sun, Unplug } from "lucide-react";
import { lazy, Suspense, useEffect } from "react";
import { useTranslation } from "react-i18next";
import { Link, Route, Routes, useLocation, useNavigate } from "react-router";
import { useProjects } from "../api/queries.ts";
import { path, request } from "../api/request.ts";
import { defaultProject, useConnection, useEnvironment, useHref, useProject } from "../app.tsx";
import { useTell } from "../components/tell.ts";
import { Cluster } from "../pages/cluster.tsx";
import { Images } from "../pages/images.tsx";
import { Instances } from "../pages/instances.tsx";
import { Networks, Profiles, Projects, StoragePools } from "../pages/lists.tsx";
import { Operations } from "../pages/operations.tsx";
import { Overview } from "../pages/overview.tsx";
import { Sessions } from "../pages/sessions.tsx";
import { navigation, ProductIcon } from "./nav.ts";

const Create = lazy(() => import("../pages/create.tsx"));
const InstancePage = lazy(() => import("../pages/instance/page.tsx"));

/** The frame of all pages: header, navigation, content. */
export function Shell() {
  const { t } = useTranslation();
  const [opened, { toggle, close }] = useDisclosure();
  const location = useLocation();
  const href = useHref();
  const environment = useEnvironment();
  useEffect(close, [location.pathname, close]);
  useEffect(() => {
    document.title = environment ? `${t("app.title")} · ${environment.server_name}` : t("app.title");
  }, [environment, t]);
  return (
    <AppShell
      header={{ height: 56 }}
      navbar={{ width: 220, breakpoint: "sm", collapsed: { mobile: !opened } }}
      padding={{ base: "sm", sm: "lg" }}
    >
      <a className="skip" href="#content">
        {t("app.skip")}
      </a>
      <AppShell.Header>
        <Group h="100%" px="md" wrap="nowrap" justify="space-between">
          <Group wrap="nowrap" gap="sm" miw={0}>
            <Burger opened={opened} onClick={toggle} hiddenFrom="sm" size="sm" aria-label={t("app.menu")} />
            <Anchor component={Link} to={href("/")} c="inherit" underline="never" aria-label={t("app.title")}>
              <Group gap="xs" wrap="nowrap">
                <ProductIcon size={22} aria-hidden />
                <Title order={1} size="h4">
                  {t("app.title")}
                </Title>
              </Group>
            </Anchor>
            <Text c="dimmed" size="sm" truncate visibleFrom="xs">
              {environment?.server_name}
            </Text>
          </Group>
          <Group gap="xs" wrap="nowrap">
            <ProjectChoice />
            <Colours />
            <LogOutButton />
          </Group>
        </Group>
      </AppShell.Header>
      <AppShell.Navbar p="xs" component="nav" aria-label={t("nav.main")}>
        <ScrollArea>
          {navigation.map((group, i) => (
            <div key={i}>
              {i > 0 && <Divider my="xs" />}
              {group.map((n) => (
                <NavLink
                  key={n.to}
                  component={Link}
                  to={href(n.to)}
                  label={t(n.label)}
                  leftSection={<n.icon size={18} aria-hidden />}
                  active={n.to === "/" ? location.pathname === "/" : location.pathname.startsWith(n.to)}
                  aria-current={location.pathname === n.to ? "page" : undefined}
                />
              ))}
            </div>
          ))}
          <Anchor href="/ui/licences.txt" size="xs" c="dimmed" px="sm" py="md" display="block">
            {t("nav.licences")}
          </Anchor>
        </ScrollArea>
      </AppShell.Navbar>
      <AppShell.Main id="content">
        <Lost />
        <Suspense
          fallback={
            <Center h={200}>
              <Loader aria-label={t("app.loading")} />
            </Center>
          }
        >
          <Routes>
            <Route path="/" element={<Overview />} />
            <Route path="/login" element={<Overview />} />
            <Route path="/instances" element={<Instances />} />
            <Route path="/instances/:name" element={<InstancePage />} />
            <Route path="/instances/:name/:tab" element={<InstancePage />} />
            <Route path="/create" element={<Create />} />
            <Route path="/images" element={<Images />} />
            <Route path="/profiles" element={<Profiles />} />
            <Route path="/networks" element={<Networks />} />
            <Route path="/storage" element={<StoragePools />} />
            <Route path="/projects" element={<Projects />} />
            <Route path="/operations" element={<Operations />} />
            <Route path="/cluster" element={<Cluster />} />
            <Route path="/sessions" element={<Sessions />} />
            <Route path="*" element={<NotFound />} />
          </Routes>
        </Suspense>
      </AppShell.Main>
    </AppShell>
  );
}

function NotFound() {
  const { t } = useTranslation();
  const href = useHref();
  return (
    <Alert color="yellow" title={t("app.notFound")}>
      <Anchor component={Link} to={href("/")}>
        {t("app.home")}
      </Anchor>
    </Alert>
  );
}

function Lost() {
  const { t } = useTranslation();
  if (useConnection() !== "lost") return null;
  return (
    <Alert color="yellow" mb="md" icon={<Unplug aria-hidden />} role="status">
      {t("app.lost")}
    </Alert>
  );
}

function ProjectChoice() {
  const { t } = useTranslation();
  const projects = useProjects();
  const project = useProject();
  const navigate = useNavigate();
  const location = useLocation();
  const names = (projects.data ?? []).map((p) => p.name);
  if (names.length < 2 && project === defaultProject) return null;
  if (!names.includes(project)) names.push(project);
  return (
    <Select
      aria-label={t("nav.project")}
      size="xs"
      w={130}
      data={names}
      value={project}
      allowDeselect={false}
      onChange={(p) => {
        // A page of one instance means nothing in another project.
        const to = location.pathname.startsWith("/instances/") ? "/instances" : location.pathname;
        void navigate(p === null || p === defaultProject ? to : `${to}?project=${encodeURIComponent(p)}`);
      }}
    />
  );
}

function Colours() {
  const { t } = useTranslation();
  const { setColorScheme } = useMantineColorScheme();
  const dark = useComputedColorScheme("light") === "dark";
  const label = dark ? t("nav.light") : t("nav.dark");
  return (
    <Tooltip label={label}>
      <ActionIcon variant="default" size="lg" aria-label={label} onClick={() => setColorScheme(dark ? "light" : "dark")}>
        {dark ? <Sun size={18} aria-hidden /> : <Moon size={18} aria-hidden />}
      </ActionIcon>
    </Tooltip>
  );
}

function LogOutButton() {
  const { t } = useTranslation();
  const client = useQueryClient();
  const tell = useTell();
  return (
    <Tooltip label={t("nav.logout")}>
      <ActionIcon
        variant="default"
        size="lg"
        aria-label={t("nav.logout")}
        onClick={() =>
          void (async () => {
            try {
              await request("DELETE", path(["webui", "sessions", "current"]));
            } catch (e) {
              tell.error(t("nav.logout"), e);
            }
            await client.resetQueries();
          })()
        }
      >
        <LogOut size={18} aria-hidden />
      </ActionIcon>
    </Tooltip>
  );
}
