(() => {
  // Without this the graph is links with tooltips above a table. With it: details at hover, paths, keys, sizes.
  const MIN = 0.15, MAX = 3;
  const start = (holder) => {
    const card = holder.querySelector(".card");
    const heads = [...holder.querySelectorAll(".rows th")].map((one) => one.textContent);
    const graphs = [...holder.querySelectorAll("svg.graph")].map((svg) => setUp(svg, card, heads));
    const tools = holder.querySelector(".tools");
    tools.hidden = false;
    tools.querySelectorAll("[data-zoom]").forEach((button) => button.addEventListener("click", () => graphs.forEach((graph) =>
      graph.zoom(button.dataset.zoom === "fit" ? graph.fitting() : graph.scale * Number(button.dataset.zoom)))));
    tools.querySelector(".narrow").addEventListener("input", (event) => graphs.forEach((graph) => graph.narrow(event.target.value)));
    const things = holder.querySelector("#view-things");
    holder.querySelectorAll("[name=view]").forEach((one) => one.addEventListener("change", () => graphs.forEach((graph) => graph.show())));
    graphs.forEach((graph) => {
      graph.open = (node) => {
        // A node that stands for many opens them.
        const full = graphs.find((one) => one !== graph);
        things.checked = true;
        full.show();
        full.focus(full.nodes.find((one) => one.dataset.row === node.dataset.row));
      };
      graph.show();
    });
  };
  const setUp = (svg, card, heads) => {
    const box = svg.parentElement;
    const nodes = [...svg.querySelectorAll(".node")];
    const edges = [...svg.querySelectorAll(".edge")].map((path) => ({ path, from: Number(path.dataset.from), to: Number(path.dataset.to) }));
    const up = nodes.map(() => []), down = nodes.map(() => []);
    edges.forEach((edge) => { down[edge.from].push(edge); up[edge.to].push(edge); });
    const number = new Map(nodes.map((node, index) => [node, index]));
    const place = nodes.map((node) => ({ x: Number(node.dataset.x), y: Number(node.dataset.y) }));
    const size = nodes.length ? nodes[0].querySelector("rect").getBBox() : { width: 0, height: 0 };
    const width = svg.viewBox.baseVal.width, height = svg.viewBox.baseVal.height;
    const graph = { nodes, scale: 1, kept: null };
    let shown = false;

    // The card says it better than a tooltip, and at once.
    nodes.forEach((node) => { node.querySelector("title").remove(); node.setAttribute("tabindex", "-1"); });
    const first = nodes.find((node) => node.classList.contains("start")) || nodes[0];
    if (first) first.setAttribute("tabindex", "0");

    const reach = (from, sides, end, found) => {
      const front = [from];
      while (front.length) sides[front.pop()].forEach((edge) => {
        found.edges.add(edge.path);
        if (!found.nodes.has(edge[end])) { found.nodes.add(edge[end]); front.push(edge[end]); }
      });
    };
    const light = (found) => {
      svg.classList.toggle("path", Boolean(found));
      nodes.forEach((node, index) => node.classList.toggle("on", Boolean(found) && found.nodes.has(index)));
      edges.forEach((edge) => edge.path.classList.toggle("on", Boolean(found) && found.edges.has(edge.path)));
    };
    const enter = (node) => {
      const index = number.get(node), found = { nodes: new Set([index]), edges: new Set() };
      reach(index, up, "from", found);
      const back = new Set(found.nodes);
      found.nodes = new Set([index]);
      reach(index, down, "to", found);
      back.forEach((one) => found.nodes.add(one));
      light(found);
      describe(node);
    };
    const leave = () => { light(graph.kept); card.hidden = true; };
    const describe = (node) => {
      card.replaceChildren();
      const add = (name, text) => {
        if (!text) return;
        const dt = document.createElement("dt"), dd = document.createElement("dd");
        dt.textContent = name;
        dd.textContent = text;
        card.append(dt, dd);
      };
      const row = node.classList.contains("group") ? null : document.getElementById(node.dataset.row);
      if (row) [...row.cells].forEach((cell, index) => add(heads[index], cell.textContent.trim()));
      else add("", node.getAttribute("aria-label"));
      card.hidden = false;
    };
    nodes.forEach((node) => {
      node.addEventListener("pointerenter", () => enter(node));
      node.addEventListener("pointerleave", leave);
      node.addEventListener("focus", () => enter(node));
      node.addEventListener("blur", leave);
      node.addEventListener("click", (event) => {
        if (node.classList.contains("group")) { event.preventDefault(); graph.open(node); return; }
        const target = node.getAttribute("href");
        // In a file a node leads to its row of the table, which may be folded away.
        if (target.startsWith("#")) document.getElementById(target.slice(1))?.closest("details")?.setAttribute("open", "");
      });
      node.addEventListener("keydown", (event) => {
        const next = step(number.get(node), event.key);
        if (next === undefined) return;
        event.preventDefault();
        graph.focus(nodes[next]);
      });
    });
    const step = (index, key) => {
      const near = (some) => some.sort((a, b) => Math.abs(place[a].y - place[index].y) - Math.abs(place[b].y - place[index].y))[0];
      const beside = () => nodes.map((_, other) => other).filter((other) => place[other].x === place[index].x);
      if (key === "ArrowLeft") return near(up[index].map((edge) => edge.from));
      if (key === "ArrowRight") return near(down[index].map((edge) => edge.to));
      if (key === "ArrowUp") return near(beside().filter((other) => place[other].y < place[index].y));
      if (key === "ArrowDown") return near(beside().filter((other) => place[other].y > place[index].y));
      if (key === "Home") return number.get(first);
      return undefined;
    };
    graph.focus = (node) => {
      if (!node) return;
      nodes.forEach((one) => one.setAttribute("tabindex", one === node ? "0" : "-1"));
      node.focus({ preventScroll: true });
      centre(node, "nearest");
    };
    const centre = (node, how) => {
      const { x, y } = place[number.get(node)], room = 30;
      const left = x * graph.scale, top = y * graph.scale, right = (x + size.width) * graph.scale, bottom = (y + size.height) * graph.scale;
      if (how === "nearest") {
        if (left < box.scrollLeft + room) box.scrollLeft = left - room;
        if (right > box.scrollLeft + box.clientWidth - room) box.scrollLeft = right - box.clientWidth + room;
        if (top < box.scrollTop + room) box.scrollTop = top - room;
        if (bottom > box.scrollTop + box.clientHeight - room) box.scrollTop = bottom - box.clientHeight + room;
      } else {
        box.scrollLeft = (left + right - box.clientWidth) / 2;
        box.scrollTop = (top + bottom - box.clientHeight) / 2;
      }
    };
    graph.fitting = () => Math.min(1, box.clientWidth / width, (window.innerHeight * 0.78) / height);
    graph.zoom = (scale) => {
      const x = (box.scrollLeft + box.clientWidth / 2) / graph.scale, y = (box.scrollTop + box.clientHeight / 2) / graph.scale;
      graph.scale = Math.min(MAX, Math.max(MIN, scale));
      svg.setAttribute("width", width * graph.scale);
      svg.setAttribute("height", height * graph.scale);
      box.scrollLeft = x * graph.scale - box.clientWidth / 2;
      box.scrollTop = y * graph.scale - box.clientHeight / 2;
    };
    graph.show = () => {
      if (shown || !box.clientWidth) return;
      shown = true;
      // Never so small at first that nothing can be read.
      graph.zoom(Math.max(0.7, Math.min(1, box.clientWidth / width)));
      if (first) centre(first, "centre");
    };
    graph.narrow = (text) => {
      const wanted = text.trim().toLowerCase();
      const told = (node) => {
        const row = node.classList.contains("group") ? null : document.getElementById(node.dataset.row);
        return `${node.getAttribute("aria-label")} ${row ? row.textContent : ""}`.toLowerCase();
      };
      graph.kept = wanted ? { nodes: new Set(nodes.flatMap((node, index) => (told(node).includes(wanted) ? [index] : []))), edges: new Set() } : null;
      light(graph.kept);
    };
    box.addEventListener("wheel", (event) => {
      if (!event.ctrlKey) return;
      event.preventDefault();
      graph.zoom(graph.scale * (event.deltaY < 0 ? 1.15 : 0.87));
    }, { passive: false });
    box.addEventListener("pointerdown", (event) => {
      if (event.pointerType !== "mouse" || event.button || event.target.closest(".node")) return;
      const from = { x: event.clientX + box.scrollLeft, y: event.clientY + box.scrollTop };
      const move = (now) => { box.scrollLeft = from.x - now.clientX; box.scrollTop = from.y - now.clientY; };
      const stop = () => { box.classList.remove("moving"); removeEventListener("pointermove", move); removeEventListener("pointerup", stop); };
      box.classList.add("moving");
      addEventListener("pointermove", move);
      addEventListener("pointerup", stop);
    });
    return graph;
  };
  document.querySelectorAll(".lineage").forEach(start);
})();
